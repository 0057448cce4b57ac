"""R@k against cases that are counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from curate.bench.retrieval import recalls


def test_each_way_counts_its_own_queries():
    similarity = np.eye(12, dtype=np.float32)
    # Captions 1 to 6 fit picture 0 better than its own does; each of them still finds its own picture second.
    similarity[0, 1:7] = 2
    found = recalls(similarity)
    assert found["image_to_text", 1] == found["image_to_text", 5] == pytest.approx(100 * 11 / 12)
    assert found["image_to_text", 10] == 100
    assert found["text_to_image", 1] == 50
    assert found["text_to_image", 5] == 100


def test_ties_find_nothing():
    found = recalls(np.ones((20, 20), dtype=np.float32))
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("shape", [(3, 4), (0, 0), (4,)])
def test_only_pairs_can_be_found(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="must be square"):
        recalls(np.zeros(shape, dtype=np.float32))

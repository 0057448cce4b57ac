"""A run whose captions try to get into the page."""

import pytest

from tests.conftest import Pipeline
from tests.corpus import make_pairs, write_shard

EVIL = '</script><img src=x onerror="document.title=1"> {{ 7*7 }}'


@pytest.fixture(scope="session")
def hostile(tmp_path_factory, tiny_encoder):
    """A run over pairs with hostile captions, one picture of which is broken. Read only."""
    folder = tmp_path_factory.mktemp("hostile")
    pairs = make_pairs(158, seed=3)
    pairs += [(pairs[0][0], EVIL), (b"no picture", "a broken picture")]
    members = {f"{number:04d}.png": image for number, (image, _) in enumerate(pairs)}
    members |= {f"{number:04d}.txt": caption.encode() for number, (_, caption) in enumerate(pairs)}
    write_shard(folder / "00000.tar", sorted(members.items()))
    made = Pipeline(folder, folder / "run", tiny_encoder)
    made.run()
    return made

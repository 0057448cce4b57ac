"""The sample is the same pairs whatever the order, the parts and the rest of the corpus are."""

import uuid

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import CurateError
from curate.noise.fit import MOST_COPIES
from curate.noise.model import identities
from curate.sampling import draw_sample
from curate.schema import FIELDS_TYPE
from curate.store import RunStore, part_file

ROWS = list(range(40))
UNUSABLE = set(ROWS[5:12])
USABLE = [row for row in ROWS if row not in UNUSABLE]


def store_with(parts):
    """Parts of numbered pairs: picture, caption, embeddings and the field `site` tell the number."""
    store = RunStore(f"memory://{uuid.uuid4().hex}")
    for number, rows in enumerate(parts):
        fine = [row not in UNUSABLE for row in rows]
        fields = [[{"name": "site", "value": f"site {row % 3}"}] if row % 4 else [] for row in rows]
        table = pa.table(
            {
                "row_id": [f"part {number}:{place}" for place in range(len(rows))],
                "image_sha256": [f"sha {row}" if good else None for row, good in zip(rows, fine, strict=True)],
                "caption": [f"caption {row}" for row in rows],
                "status": ["ok" if good else "corrupt_image" for good in fine],
                "image_embedding": embedding(rows, fine, 1),
                "text_embedding": embedding(rows, fine, 2),
                "fields": pa.array(fields, FIELDS_TYPE),
            }
        )
        store.write_table(part_file("embed", number), table, {})
    return store


def embedding(rows, fine, mark):
    return pa.array(
        [[row, mark] if good else None for row, good in zip(rows, fine, strict=True)], pa.list_(pa.float16())
    )


def drawn(parts, most, seed=0, **options):
    sample = draw_sample(store_with(parts), range(len(parts)), most, seed, joint_space=False, **options)
    return sample, sorted(int(caption.split()[1]) for caption in sample.captions)


def hash_of(row, seed):
    return int(identities([f"sha {row}"], [f"caption {row}"], seed)[0])


def test_every_usable_pair_is_taken_where_there_is_room():
    assert drawn([ROWS], 1000)[1] == USABLE


@pytest.mark.parametrize("most", [1, 7, 32, 33])
def test_the_sample_holds_the_pairs_with_the_smallest_hashes(most):
    expected = sorted(USABLE, key=lambda row: hash_of(row, 3))[:most]
    assert drawn([ROWS], most, seed=3)[1] == sorted(expected)


def test_parts_and_row_order_change_nothing():
    back = ROWS[::-1]
    assert drawn([ROWS], 10)[1] == drawn([back[:13], back[13:14], back[14:]], 10)[1]


@pytest.mark.parametrize("most", [3, 8, 9, 12, 30])
@pytest.mark.parametrize("copied", ["first", "middle"])
def test_a_pair_that_occurs_often_takes_the_room_of_eight_and_the_bound_holds(most, copied):
    ordered = sorted(USABLE, key=lambda row: hash_of(row, 0))
    often = ordered[0 if copied == "first" else 6]
    room = [row for row in ordered for _ in range(MOST_COPIES if row == often else 1)]
    one = [often] * 30 + ROWS
    cut = [[often] * 3, ROWS[20:], [often] * 20, ROWS[:20], [often] * 7]
    assert drawn([one], most)[1] == drawn(cut, most)[1] == sorted(room[:most])


def test_of_copies_the_smallest_row_ids_are_taken_whichever_part_comes_first():
    store = store_with([[0] * 6, [0] * 6])
    for parts in ([0, 1], [1, 0]):
        sample = draw_sample(store, parts, 100, 0, joint_space=False)
        names = [f"part 0:{row}" for row in range(6)] + ["part 1:0", "part 1:1"]
        assert sorted(sample.row_ids) == names


def test_pairs_keep_their_own_embeddings():
    sample = draw_sample(store_with([ROWS[:20], ROWS[20:]]), [0, 1], 15, seed=1, joint_space=True)
    numbers = [int(caption.split()[1]) for caption in sample.captions]
    assert sample.joint_space
    assert sample.strata is None
    assert sample.image.dtype == np.float32
    assert sample.image.tolist() == [[number, 1] for number in numbers]
    assert sample.text.tolist() == [[number, 2] for number in numbers]
    assert sample.image_sha256 == [f"sha {number}" for number in numbers]
    assert sample.row_ids == [f"part {number // 20}:{number % 20}" for number in numbers]


def test_strata_are_the_values_of_a_kept_field():
    sample, _ = drawn([ROWS[:20], ROWS[20:]], 15, by="site")
    numbers = [int(caption.split()[1]) for caption in sample.captions]
    assert sample.strata == [f"site {number % 3}" if number % 4 else None for number in numbers]
    assert drawn([ROWS], 15, by="absent")[0].strata == [None] * 15


def test_another_seed_draws_other_pairs():
    assert drawn([ROWS], 10, seed=0)[1] != drawn([ROWS], 10, seed=1)[1]


def test_a_corpus_without_a_usable_pair_is_told():
    with pytest.raises(CurateError, match="not one pair is usable"):
        drawn([sorted(UNUSABLE)], 10)

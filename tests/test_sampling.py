"""The sample is the same rows whatever the order, the parts and the rest of the corpus are."""

import uuid

import numpy as np
import pyarrow as pa
import pytest

from curate.errors import CurateError
from curate.noise.grouping import hash_strings
from curate.sampling import draw_sample
from curate.store import RunStore, part_file

ROWS = [f"shard.tar:{number}" for number in range(40)]
UNUSABLE = set(ROWS[5:12])


def store_with(parts):
    store = RunStore(f"memory://{uuid.uuid4().hex}")
    for number, rows in enumerate(parts):
        usable = [row not in UNUSABLE for row in rows]
        value = [float(row.split(":")[1]) for row in rows]
        table = pa.table(
            {
                "row_id": rows,
                "status": ["ok" if fine else "corrupt_image" for fine in usable],
                "image_sha256": [f"{v}" if fine else None for v, fine in zip(value, usable, strict=True)],
                "image_embedding": embedding(
                    [[v, 1] if fine else None for v, fine in zip(value, usable, strict=True)]
                ),
                "text_embedding": embedding([[v, 2] if fine else None for v, fine in zip(value, usable, strict=True)]),
            }
        )
        store.write_table(part_file("embed", number), table, {})
    return store


def embedding(rows):
    return pa.array(rows, pa.list_(pa.float16()))


def rows_of(sample):
    return sorted(sample.row_ids)


def test_every_usable_row_is_taken_where_there_is_room():
    sample = draw_sample(store_with([ROWS]), [0], 1000, seed=0, joint_space=False)
    assert rows_of(sample) == sorted(set(ROWS) - UNUSABLE)


@pytest.mark.parametrize("most", [1, 7, 32, 33])
def test_the_sample_holds_the_rows_with_the_smallest_hashes(most):
    sample = draw_sample(store_with([ROWS]), [0], most, seed=3, joint_space=False)
    usable = sorted(set(ROWS) - UNUSABLE)
    smallest = np.argsort(hash_strings(usable, 3))[:most]
    assert rows_of(sample) == sorted(usable[position] for position in smallest)


def test_parts_and_row_order_change_nothing():
    one = draw_sample(store_with([ROWS]), [0], 10, seed=1, joint_space=False)
    other = draw_sample(store_with([ROWS[::-1][:13], ROWS[::-1][13:14], ROWS[::-1][14:]]), [0, 1, 2], 10, 1, False)
    assert rows_of(one) == rows_of(other)


def test_rows_keep_their_own_embeddings():
    sample = draw_sample(store_with([ROWS[:20], ROWS[20:]]), [0, 1], 15, seed=1, joint_space=True)
    numbers = np.array([int(row.split(":")[1]) for row in sample.row_ids])
    assert sample.joint_space
    assert sample.image.tolist() == [[number, 1] for number in numbers]
    assert sample.text.tolist() == [[number, 2] for number in numbers]
    assert sample.image_hash.tolist() == hash_strings([f"{float(number)}" for number in numbers]).tolist()


def test_another_seed_draws_other_rows():
    store = store_with([ROWS])
    assert rows_of(draw_sample(store, [0], 10, 0, False)) != rows_of(draw_sample(store, [0], 10, 1, False))


def test_a_corpus_without_a_usable_pair_is_told():
    with pytest.raises(CurateError, match="not one pair is usable"):
        draw_sample(store_with([sorted(UNUSABLE)]), [0], 10, 0, False)

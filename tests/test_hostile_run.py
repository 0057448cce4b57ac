"""A whole run over hostile inputs: every row has its promised status, and clean pairs come out as without them."""

import pandas as pd
import pytest

from curate.bench.hostile.archives import ARCHIVES
from curate.bench.hostile.examine import DAMAGES, Drawn, clean_pairs, mixed_with, write_pairs, wrong_with_row
from curate.bench.hostile.inputs import HostilePair
from tests.conftest import Pipeline
from tests.corpus import make_pairs

OF_A_PAIR = ["key", "caption", "caption_bytes", "status", "error", "width", "height", "image_sha256", "duplicate_key"]


def drawn(group):
    """One input of every kind of a group but the largest."""
    return [Drawn(kind, "0") for kind, damage in DAMAGES.items() if damage.group == group and damage.weight > 0.1]


def good_pairs():
    drawings = [
        HostilePair((("png", image), ("txt", caption.encode())), caption=caption)
        for image, caption in make_pairs(150, seed=5)
    ]
    return [(f"clean{number}", pair) for number, pair in enumerate([*clean_pairs(), *drawings])]


def annotated(folder, encoder):
    made = Pipeline(folder / "shards", folder / "run", encoder)
    made.run()
    return pd.read_parquet(made.output / "annotations"), pd.read_parquet(made.output / "shard_errors.parquet")


@pytest.mark.slow
def test_a_run_over_hostile_inputs_marks_exactly_those(tmp_path, tiny_encoder):
    hostile = [(f"hostile{n}", one.build()) for n, one in enumerate([*drawn("picture"), *drawn("caption")])]
    files = {f"{number:03d}.tar": one.build() for number, one in enumerate(drawn("tar"))}
    assert len(files) > len(ARCHIVES) // 2
    for name, pairs in (("clean", good_pairs()), ("mixed", mixed_with(good_pairs(), hostile))):
        (tmp_path / name / "shards").mkdir(parents=True)
        write_pairs(tmp_path / name / "shards" / "pairs.tar", pairs)
    for name, file in files.items():
        (tmp_path / "mixed" / "shards" / name).write_bytes(file.content)
    clean, _ = annotated(tmp_path / "clean", tiny_encoder)
    found, errors = annotated(tmp_path / "mixed", tiny_encoder)
    rows = found[found.shard == "pairs.tar"].set_index("key", drop=False)
    assert list(rows.index) == [key for key, _ in mixed_with(good_pairs(), hostile)]
    undamaged = rows[rows.index.str.startswith("clean")]
    pd.testing.assert_frame_equal(undamaged[OF_A_PAIR].reset_index(drop=True), clean[OF_A_PAIR], check_dtype=False)
    wrong = {key: wrong_with_row(pair, without_missing(rows.loc[key])) for key, pair in hostile}
    assert {key: told for key, told in wrong.items() if told} == {}
    for name, file in files.items():
        if file.rows is not None:
            assert found[found.shard == name].key.tolist() == [row.key for row in file.rows]
        if file.errors is not None:
            assert (name in set(errors.shard)) == file.errors
    assert (found.noise_prob.notna() == (found.status == "ok")).all()


def without_missing(row):
    return {name: None if isinstance(value, float) and pd.isna(value) else value for name, value in row.items()}

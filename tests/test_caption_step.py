"""The caption stage in a run: doubtful captions are completed, the originals stay, nothing is done twice."""

import pandas as pd
import pytest

from curate.errors import InputError
from curate.execution import LocalRunner
from curate.export.selection import Selection
from curate.export.table import export_table
from curate.report.build import make_report
from curate.store import RunStore
from curate.summary import summarize
from tests.conftest import DECIDED_NOISE, Pipeline, worked_on

# Half of the corpus is trusted, the other half is taken for doubtful.
CAPTION = {"caption": {"when": "noise_rank > 0.3", "decoder": "consensus", "margin": 0, "accept_quantile": 0}}
STAGES = ["embed", DECIDED_NOISE, "concepts", CAPTION]


@pytest.fixture(scope="module")
def with_captions(with_noise, trusted_below, tmp_path_factory):
    """A finished run. Read only: copy it to change it."""
    made = with_noise.copied_to(tmp_path_factory.mktemp("captions"))
    made.raw["stages"] = STAGES
    made.run(f"stages.caption.trusted_below={trusted_below}")
    return made


def test_doubtful_captions_get_another_and_the_originals_stay(with_captions, with_noise, trusted_below):
    table = pd.read_parquet(with_captions.output / "annotations")
    before = pd.read_parquet(with_noise.output / "annotations")
    assert table.caption.tolist() == before.caption.tolist()
    written = table.synthetic_caption.notna()
    assert written.any()
    assert (table.noise_prob[written] >= trusted_below).all()
    assert (table.noise_rank[written] > 0.3).all()
    kept = table.caption_source == "original"
    assert (table.completed_caption[kept] == table.caption[kept]).all()
    assert (table.completed_caption[~kept] == table.synthetic_caption[~kept]).all()
    assert (table.p_use_synthetic[kept] == 0).all()
    assert set(table.synthetic_caption.dropna()) <= set(table.caption)


def test_trainers_get_the_completed_captions(with_captions, tmp_path):
    export_table(RunStore(str(with_captions.output)), tmp_path, Selection(caption="completed"), "parquet", 1000)
    exported = pd.read_parquet(tmp_path / "pairs-00000.parquet")
    table = pd.read_parquet(with_captions.output / "annotations")
    assert exported.caption.tolist() == table.completed_caption.tolist()


def test_a_second_run_does_nothing_and_a_condition_fits_nothing_again(with_captions, trusted_below, tmp_path):
    copy = with_captions.copied_to(tmp_path)
    trusted = f"stages.caption.trusted_below={trusted_below}"
    assert worked_on(copy.run(trusted)) == set()
    assert copy.contents() == with_captions.contents()
    for change in ("when=noise_rank > 0.9", "mode=append", "margin=1"):
        assert worked_on(copy.run(trusted, f"stages.caption.{change}")) == {"caption", "annotations"}


def test_the_same_bytes_with_one_worker_and_other_parts(with_captions, trusted_below, tmp_path):
    one = Pipeline(tmp_path, tmp_path / "one", with_captions.raw["encoder"], stages=STAGES)
    one.raw["input"] = {**with_captions.raw["input"], "part_rows": 1000}
    one.run(f"stages.caption.trusted_below={trusted_below}", runner=LocalRunner(1))
    columns = ["row_id", "synthetic_caption", "synthetic_score", "completed_caption", "p_use_synthetic"]
    tables = [pd.read_parquet(run.output / "annotations", columns=columns) for run in (with_captions, one)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_captioner_is_trained_where_the_decoder_writes(with_captions, trusted_below, tmp_path):
    copy = with_captions.copied_to(tmp_path)
    heard = copy.run(f"stages.caption.trusted_below={trusted_below}", "stages.caption.decoder=gru")
    assert worked_on(heard) == {"caption fit", "caption", "annotations"}
    assert (copy.output / "artifacts" / "caption" / "captioner.safetensors").exists()
    table = pd.read_parquet(copy.output / "annotations")
    words = {word for caption in table.caption for word in caption.split()}
    assert {word for caption in table.synthetic_caption.dropna() for word in caption.split()} <= words


def test_where_noise_cannot_be_told_no_caption_is_completed(with_captions, curate, tmp_path):
    copy = with_captions.copied_to(tmp_path)
    code, told, _ = curate("run", copy.file(), "--set", "stages.noise.signals=default")
    assert code == 0
    assert "no captions: the noise fit could not tell right captions from wrong ones." in " ".join(told.split())
    assert set(pd.read_parquet(copy.output / "annotations").caption_source) == {"original"}


def test_without_trusted_pairs_the_run_goes_on_and_says_so(with_captions, curate, tmp_path):
    copy = with_captions.copied_to(tmp_path)
    nobody = ("stages.caption.trusted_below=1e-9", "stages.concepts.trusted_below=1e-9")
    code, told, _ = curate("run", copy.file(), *(word for change in nobody for word in ("--set", change)))
    assert code == 0
    told = " ".join(told.split())
    assert "no concepts: 0 of 160 pairs can be trusted, 50 are needed." in told
    assert "no captions: 0 of 160 pairs can be trusted, 50 are needed." in told
    table = pd.read_parquet(copy.output / "annotations")
    assert table.completed_caption.tolist() == table.caption.tolist()
    assert set(table.caption_source) == {"original"}
    assert table[["concepts", "synthetic_caption", "synthetic_score"]].isna().all(axis=None)
    assert worked_on(copy.run(*nobody)) == set()
    store = RunStore(str(copy.output))
    assert "no captions: 0 of 160 pairs can be trusted" in make_report(store, copy.config(*nobody))
    assert len(summarize(store).verdicts) == 2
    # Stages that are left out say nothing any more, though their artifacts are still there.
    copy.raw["stages"] = ["embed", DECIDED_NOISE]
    copy.run()
    assert summarize(store).verdicts == []


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (["embed", "caption"], "caption needs the stages noise and concepts before it"),
        (["embed", "noise", "caption"], "caption needs the stage concepts before it"),
        (["embed", "noise", "concepts", {"caption": {"when": "nose < 1"}}], "there is no column 'nose'"),
        (["embed", "noise", "concepts", {"caption": {"decoder": "bert"}}], "caption.decoder"),
    ],
)
def test_wrong_captions_in_the_pipeline_are_your_input(pipeline, stages, told):
    pipeline.raw["stages"] = stages
    with pytest.raises(InputError, match=told):
        pipeline.config()

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curate.bench.speed import caption, neighbours, noise_fit
from curate.bench.speed.bare_loop import setups
from curate.bench.speed.concepts import fitted
from curate.bench.speed.decode import decoded
from curate.bench.speed.drawn_corpus import tiny_towers, write_drawn_corpus
from curate.bench.speed.end_to_end import DonePart, steady_seconds
from curate.bench.speed.measure import check_peers, check_rows, check_runners, parse_sizes
from curate.bench.speed.workload import random_towers, write_workload
from curate.errors import InputError
from curate.models.captioner import CaptionerOptions
from curate.progress import PartReport
from curate.stages.decode import decode_upright
from tests.corpus import write_corpus

SMALL = CaptionerOptions(width=16, layers=2, heads=2, epochs=1, least_steps=1, longest=8)


def test_start_up_is_no_part_of_the_steady_time():
    parts = [
        DonePart(110.0, PartReport(0, 100, head_seconds=1.0, body_seconds=4.0)),
        DonePart(111.0, PartReport(1, 100, head_seconds=1.0, body_seconds=4.0)),
        DonePart(115.0, PartReport(2, 100, head_seconds=1.0, body_seconds=4.0)),
    ]
    assert steady_seconds(parts) == 10.0


def test_a_workload_repeats_its_input_and_keeps_its_bytes(tmp_path):
    folder = write_corpus(tmp_path / "corpus", 6, 3)
    work = write_workload([str(folder / "*.tar")], 0, 10, 4, ("m", "c", "cpu"), tmp_path / "work")
    images, captions = work.pairs()
    assert len(images) == 10
    assert images[6:] == images[:4]
    assert captions[6:] == captions[:4]
    assert len(list((tmp_path / "work").rglob("*.tar"))) == 3


def test_pictures_are_scaled_to_their_longest_side(tmp_path):
    work = write_workload([], 96, 3, 3, ("m", "c", "cpu"), tmp_path)
    images, _ = work.pairs()
    assert [decode_upright(image, 10**6).size for image in images] == [(96, 72)] * 3
    exact, fast = (decoded(images, 32, method, workers=2) for method in ("exact", "fast"))
    assert exact.shape == fast.shape == (3, 32, 32, 3)
    assert 0 < np.abs(exact.astype(int) - fast).mean() < 10


def test_an_input_without_pairs_is_refused(tmp_path):
    (tmp_path / "nothing").mkdir()
    folder = write_corpus(tmp_path / "corpus", 0, 1)
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError, match="corpus"):
        write_workload([str(folder / "*.tar")], 0, 2, 2, ("m", "c", "cpu"), tmp_path / "work")


def test_weights_are_random_and_the_same_every_time(tmp_path):
    _, one = tiny_towers(tmp_path / "a")
    _, other = tiny_towers(tmp_path / "b")
    assert Path(one).read_bytes() == Path(other).read_bytes()
    with pytest.raises(InputError, match="no such model"):
        random_towers("ViT-Z-99", tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not JSON", "cannot be read"),
        ("[]", "no model_cfg"),
        ('{"model_cfg": {"vision_cfg": {"timm_model_name": "vit"}, "text_cfg": {}}}', "two Transformers"),
    ],
)
def test_other_architectures_are_your_input(content, said, tmp_path):
    config = tmp_path / "model.json"
    config.write_text(content)
    with pytest.raises(InputError, match=said):
        random_towers(str(config), tmp_path / "towers")


def test_a_drawn_corpus_has_every_picture_once(tmp_path):
    write_drawn_corpus(tmp_path / "drawn", 7, 3)
    work = write_workload([str(tmp_path / "drawn" / "*.tar")], 0, 7, 7, ("m", "c", "cpu"), tmp_path / "work")
    images, captions = work.pairs()
    assert len(set(images)) == len(set(captions)) == 7


def test_histograms_and_scikit_learn_fit_the_same_mixture():
    ours, theirs = noise_fit._ours(20_000), noise_fit._scikit_learn(20_000)
    assert np.abs(np.array(ours["mixture_posterior"]) - theirs["posterior"]).max() < 0.01


def test_scores_do_not_depend_on_how_many_follow():
    short, long = next(noise_fit.scores(10)), next(noise_fit.scores(1000))
    assert len(short) == 10
    assert np.concatenate(list(noise_fit.scores(1000))).tolist() == long.tolist()


def test_exact_neighbours_are_those_of_a_full_sort(monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", 70)
    base, asked = neighbours.features(300), neighbours.features(20, 5)
    wanted = np.argsort(-(asked @ base.T), axis=1)[:, : neighbours.NEIGHBOURS]
    found = neighbours.nearest_exactly(base, asked)
    assert (np.sort(found, axis=1) == np.sort(wanted, axis=1)).all()
    assert neighbours.recall(found, wanted) == 1
    assert neighbours.recall(found[:, :15], wanted) == 0.5


@pytest.mark.parametrize("method", ["signal", "inverted_lists"])
def test_neighbours_are_timed(method):
    answer = neighbours._make({"method": method, "pairs": 2000})()
    assert answer["seconds"] > 0
    assert answer.get("references", 2000) == 2000
    assert answer.get("recall", 1) > 0.5


def test_captions_without_the_cache_are_the_same():
    model = caption.captioner("transformer", 40, SMALL)
    asked = caption.rows(10)
    without = caption.Recomputing(model.network)
    assert replace(model, network=without).greedy(asked) == model.greedy(asked)
    assert any(text for text in model.greedy(asked))


def test_concepts_are_mined_from_drawn_captions(monkeypatch):
    monkeypatch.setattr("curate.bench.speed.concepts.FITTED_ON", 600)
    model, _ = fitted()
    assert "dog" in model.vocabulary.names


def test_each_setup_uses_every_core():
    assert all(setup.workers * setup.threads == 6 for setup in setups("cpu", 6))


def test_what_is_typed_wrong_is_said():
    assert check_rows(["decode", "end_to_end"]) == ["end_to_end", "decode"]
    assert "noise_fit" in check_rows(["all"])
    with pytest.raises(InputError, match="--rows tea"):
        check_rows(["tea"])
    with pytest.raises(InputError, match="--runner slurm"):
        check_runners(["slurm"])
    with pytest.raises(InputError, match="--image-size big"):
        parse_sizes("big")
    with pytest.raises(InputError, match="--peer nobody"):
        check_peers(["nobody=/bin/sh"])
    with pytest.raises(InputError, match="no interpreter"):
        check_peers(["data_juicer=/no/python"])
    assert list(check_peers(["clip-retrieval=/bin/sh"])) == ["clip_retrieval"]

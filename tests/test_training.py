"""Fine-tuning on a run: the trusted pairs and no others, the same weights however often it is killed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from curate.errors import CurateError
from curate.execution import LocalRunner
from curate.models.encoder import EncoderOptions
from curate.models.finetune_options import FinetuneOptions
from curate.plan import make_plan
from curate.steps import EmbedWork
from curate.store import RunStore, part_file
from curate.training import CHECKPOINT_FILE, TRAINING_FILE, WEIGHTS_FILE, TrainWork, read_training

OPTIONS = FinetuneOptions(epochs=2, batch_size=16, learning_rate=1e-3, checkpoint_steps=1)


@pytest.fixture
def work(finished, tmp_path):
    """A training over a copy of a finished run."""
    return training_of(finished.copied_to(tmp_path))


def training_of(copy):
    plan = make_plan(copy.config(), LocalRunner(2).index)
    embed = next(step.work for step in plan.steps if isinstance(getattr(step, "work", None), EmbedWork))
    return TrainWork(
        source=plan.source,
        parts=plan.manifest.parts,
        shards=plan.manifest.shards,
        run=plan.store.url,
        hints="noise",
        folder="artifacts/refine-1",
        options=EncoderOptions(**copy.raw["encoder"]),
        spec=plan.spec,
        decode=embed.decode,
        how=OPTIONS,
        trusted_below=0.5,
        fingerprint="of this training",
    )


def weights(work):
    return load(RunStore(work.run).read_bytes(f"{work.folder}/{WEIGHTS_FILE}"))


def trusted(work):
    """Row numbers of every part whose pairs are below the threshold, read another way."""
    store = RunStore(work.run)
    found = {}
    for number in work.parts:
        status = store.read_table(part_file("embed", number), ["status"]).column("status").to_pylist()
        noise = store.read_table(part_file("noise", number), ["noise_prob"]).column("noise_prob").to_pylist()
        found[number] = [
            row
            for row, (state, prob) in enumerate(zip(status, noise, strict=True))
            if state == "ok" and prob < work.trusted_below
        ]
    return found


def test_only_trusted_pairs_are_learned_from_each_with_its_own_picture_and_hints(work):
    expected = trusted(work)
    assert 0 < sum(map(len, expected.values())) < 160
    store = RunStore(work.run)
    plain = replace(work, trusted_below=2.0)
    for number, rows in expected.items():
        pairs, everything = work.pairs_of(number), plain.pairs_of(number)
        captions = store.read_table(part_file("embed", number), ["caption"]).column("caption").to_pylist()
        assert list(pairs.captions) == [captions[row] for row in rows]
        assert np.array_equal(pairs.pixels, everything.pixels[rows])
        assert (pairs.hints.noise_prob < 0.5).all()


def test_it_learns_and_leaves_weights_that_fit_the_model(work):
    work = replace(work, how=replace(OPTIONS, epochs=6, loss="infonce"))
    work.train()
    losses = read_training(RunStore(work.run), work.folder)["epoch_losses"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    start = load(Path(work.options.pretrained).read_bytes())
    assert set(weights(work)) == set(start)
    assert all(weight.shape == start[name].shape for name, weight in weights(work).items())


class Death(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_killed_and_resumed_it_leaves_the_same_bytes(work, monkeypatch, steps):
    work.train()
    store = RunStore(work.run)
    names = [f"{work.folder}/{name}" for name in (WEIGHTS_FILE, TRAINING_FILE)]
    undisturbed = [store.read_bytes(name) for name in names]
    again = replace(work, folder="artifacts/refine-2")
    write, left = RunStore.write_bytes, [steps]

    def dying(self, name, data):
        if name.endswith(CHECKPOINT_FILE):
            if not left[0]:
                raise Death
            left[0] -= 1
        write(self, name, data)

    monkeypatch.setattr(RunStore, "write_bytes", dying)
    with pytest.raises(Death):
        again.train()
    monkeypatch.undo()
    assert not store.exists(f"{again.folder}/{WEIGHTS_FILE}")
    again.train()
    assert [store.read_bytes(name.replace("refine-1", "refine-2")) for name in names] == undisturbed
    assert not store.exists(f"{again.folder}/{CHECKPOINT_FILE}")


def test_a_checkpoint_of_another_training_is_not_gone_on_from(work):
    work.train()
    expected = weights(work)
    store = RunStore(work.run)
    store.write_bytes(f"{work.folder}/{CHECKPOINT_FILE}", b"of another training\nanything")
    work.train()
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(work).items())


def test_an_epoch_begun_in_its_middle_goes_on_as_it_would_have(work, monkeypatch):
    monkeypatch.setattr("curate.training.GROUP_PAIRS", 40)
    towers = work._towers()
    from curate.training import _Batches

    (groups,) = work._groups(1)
    assert len(groups) > 1
    batches = _Batches(work, towers, groups, 0, 8, sum(group.pairs // 8 for group in groups))
    whole = list(batches.of_epoch(1, 0))
    assert len(whole) == batches.steps
    for start in range(len(whole)):
        rest = list(batches.of_epoch(1, start))
        assert len(rest) == len(whole) - start
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(rest, whole[start:], strict=True))
    seen = np.concatenate([batch.hints.picture for batch in whole])
    assert len(seen) == len(whole) * 8
    other = np.concatenate([batch.hints.picture for batch in batches.of_epoch(2, 0)])
    assert not np.array_equal(seen, other)


def test_workers_share_the_parts_and_every_one_has_as_many_steps(work):
    shares = work._groups(2)
    parts = [number for mine in shares for group in mine for number in group.parts]
    assert sorted(parts) == sorted(work.parts)


def test_too_few_trusted_pairs_are_said(work):
    with pytest.raises(CurateError, match="too few"):
        replace(work, trusted_below=0.0).train()

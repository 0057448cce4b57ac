"""Training of towers: it learns, it can be killed at any step, and how many workers share a batch changes nothing."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import open_clip
import pytest
import torch

from curate.errors import CurateError
from curate.models.finetune import Hints, TrainingBatch, batch_loss, finetune, learning_rate
from curate.models.finetune_options import FinetuneOptions
from curate.models.losses import distribution_gap, dsdmr, info_nce, itc_losses, npc

CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8},
    "text_cfg": {"context_length": 6, "vocab_size": 32, "width": 8, "heads": 2, "layers": 1},
}
STEPS = 4
OPTIONS = FinetuneOptions(epochs=2, batch_size=8, learning_rate=3e-3, lora_rank=2, checkpoint_steps=1)


class Kept:
    """Checkpoints in memory; may fail after some saves, as a worker that is killed."""

    def __init__(self, saves_before_death=None):
        self.state, self.left = None, saves_before_death

    def load(self):
        return self.state

    def save(self, state):
        if self.left == 0:
            raise KeyboardInterrupt
        self.state = state
        if self.left is not None:
            self.left -= 1


def small_clip():
    torch.manual_seed(3)
    return open_clip.CLIP(**json.loads(json.dumps(CONFIG)))


def normalise(pixels):
    return pixels.permute(0, 3, 1, 2).float() / 80


def train(batches, options, checkpoints):
    return finetune(small_clip(), normalise, batches, STEPS, options, checkpoints)


def hints(rows, noise_prob=0.0):
    noise = np.full(rows, noise_prob, np.float32)
    own = np.arange(rows, dtype=np.int64)
    return Hints(noise, noise / 2, 1 - noise, 0.3 * (1 - noise), 0.2 * (1 - noise), own, own)


def batches(epoch, start, rows=slice(None)):
    """Pictures of one colour each, named by one word."""
    for step in range(start, STEPS):
        generator = torch.Generator().manual_seed(100 * epoch + step)
        colours = torch.randperm(16, generator=generator)[:8]
        pixels = torch.zeros(8, 16, 16, 3, dtype=torch.uint8)
        pixels[torch.arange(8), :, :, colours % 3] = (10 * (colours + 1)).to(torch.uint8)[:, None, None]
        tokens = torch.zeros(8, 6, dtype=torch.long)
        tokens[:, 0], tokens[:, 1], tokens[:, 2] = 1, 2 + colours, 31
        yield TrainingBatch(pixels[rows], tokens[rows], hints(8).take(np.arange(8)[rows]))


@pytest.mark.parametrize("loss", ["infonce", "nitc", "npc", "dsdmr"])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_every_loss_goes_down(loss, trainable):
    options = replace(OPTIONS, loss=loss, trainable=trainable, epochs=12, learning_rate=1e-2)
    trained = train(batches, options, Kept())
    assert len(trained.epoch_losses) == 12
    assert trained.epoch_losses[-1] < 0.9 * trained.epoch_losses[0]
    assert set(trained.weights) == set(small_clip().state_dict())


@pytest.mark.parametrize("trainable", ["full", "lora"])
@pytest.mark.parametrize("deaths", [1, 3, 5])
def test_killed_and_resumed_it_has_the_same_weights(trainable, deaths):
    options = replace(OPTIONS, trainable=trainable)
    undisturbed = train(batches, options, Kept())
    kept = Kept(deaths)
    with pytest.raises(KeyboardInterrupt):
        train(batches, options, kept)
    kept.left = None
    resumed = train(batches, options, kept)
    assert resumed.epoch_losses == undisturbed.epoch_losses
    assert all(torch.equal(weight, undisturbed.weights[name]) for name, weight in resumed.weights.items())


def test_a_finished_training_is_not_done_again():
    kept = Kept()
    first = train(batches, OPTIONS, kept)

    def none_left(epoch, start):
        raise AssertionError("no step is left")

    again = train(none_left, OPTIONS, kept)
    assert all(torch.equal(weight, first.weights[name]) for name, weight in again.weights.items())


def test_a_checkpoint_of_another_training_is_refused():
    kept = Kept()
    train(batches, replace(OPTIONS, trainable="lora"), kept)
    with pytest.raises(CurateError, match="does not fit"):
        train(batches, OPTIONS, kept)
    kept.state = b"\x08\x00\x00\x00\x00\x00\x00\x00not json"
    with pytest.raises(CurateError, match="cannot be read"):
        train(batches, OPTIONS, kept)


def test_a_loss_that_is_no_number_stops_the_training():
    with pytest.raises(CurateError, match="learning_rate"):
        finetune(small_clip(), lambda pixels: normalise(pixels) * torch.nan, batches, STEPS, OPTIONS, Kept())


def worker(rank, world, address, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
    share = slice(rank * 8 // world, (rank + 1) * 8 // world)
    trained = train(lambda epoch, start: batches(epoch, start, share), OPTIONS, Kept())
    if rank == 0:
        queue.put({name: weight.numpy() for name, weight in trained.weights.items()})
    torch.distributed.destroy_process_group()


def test_two_workers_that_share_a_batch_train_what_one_does(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=worker, args=(rank, 2, f"file://{tmp_path}/meet", queue)) for rank in range(2)]
    for process in workers:
        process.start()
    try:
        shared = queue.get(timeout=240)
    finally:
        for process in workers:
            process.kill()
            process.join()
    alone = train(batches, OPTIONS, Kept()).weights
    start = small_clip().state_dict()
    moved = max(float((alone[name] - start[name]).abs().max()) for name in alone)
    apart = max(float(np.abs(alone[name].numpy() - shared[name]).max()) for name in alone)
    assert moved > 1e-3
    assert apart < 1e-2 * moved


def rows_of(seed):
    rows = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)), dim=1)
    return rows.double()


def tensors(given):
    return given.tensors(torch.device("cpu"))


def test_a_pair_with_the_picture_or_the_caption_of_another_is_no_negative_of_it():
    image, text, scale = rows_of(0), rows_of(1), torch.tensor(5.0).double()
    alike = replace(hints(6), picture=np.array([0, 0, 2, 3, 4, 5]), caption=np.array([0, 1, 2, 2, 4, 5]))
    same = torch.eye(6, dtype=torch.bool)
    same[0, 1] = same[1, 0] = same[2, 3] = same[3, 2] = True
    expected = info_nce(5 * image @ text.T, same)
    assert torch.isclose(batch_loss("infonce", image, text, scale, tensors(alike)), expected)


def test_npc_finds_its_memory_among_the_certain_pairs_of_the_batch():
    image, text, scale = rows_of(0), rows_of(1), torch.tensor(5.0).double()
    noise = np.array([0.0, 0.0, 0.5, 0.9, 0.9, 0.9], np.float32)
    known = replace(hints(6), noise_prob=noise, weight=np.ones(6, np.float32))
    logits = scale * image @ text.T
    # Two certain pairs: each is the other's entry, and either may be that of the rest.
    near = [int(row[:2].argmax()) for side in (image, text) for row in (side @ side.T)[2:]]
    entries = torch.tensor([1, 0, *near[:4], 1, 0, *near[4:]])
    expected = npc(logits, torch.ones(6), logits[entries][:, entries], entries)
    assert torch.isclose(batch_loss("npc", image, text, scale, tensors(known)), expected)


def test_npc_without_a_certain_pair_has_no_memory():
    image, text, scale = rows_of(0), rows_of(1), torch.tensor(5.0).double()
    doubtful = hints(6, 0.5)
    expected = (0.5 * itc_losses(scale * image @ text.T)).mean()
    assert torch.isclose(batch_loss("npc", image, text, scale, tensors(doubtful)), expected)


def test_the_distribution_gap_is_added_to_dsdmr_by_its_weight():
    image, text, scale = rows_of(0), rows_of(1), torch.tensor(5.0).double()
    noise = np.array([0.0, 0.1, 0.2, 0.7, 0.8, 0.9], np.float32)
    known = replace(hints(6), noise_prob=noise)
    cosines = image @ text.T
    ranking = dsdmr(
        cosines, torch.tensor(known.margin_image), torch.tensor(known.margin_text), torch.tensor(noise < 0.5)
    )
    gap = distribution_gap(cosines.diagonal(), torch.tensor(noise))
    assert float(gap) > 0
    for weight in (0.0, 0.5):
        found = batch_loss("dsdmr", image, text, scale, tensors(known), weight)
        assert torch.isclose(found, ranking + weight * gap)


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_the_distribution_gap_changes_the_weights(trainable):
    def doubtful(epoch, start):
        for batch in batches(epoch, start):
            yield replace(batch, hints=replace(batch.hints, noise_prob=np.linspace(0, 0.9, 8, dtype=np.float32)))

    options = replace(OPTIONS, trainable=trainable, loss="dsdmr", epochs=1)
    plain, driven = (train(doubtful, replace(options, distribution_gap=gap), None).weights for gap in (0.0, 1.0))
    assert any(not torch.equal(weight, driven[name]) for name, weight in plain.items())


def test_without_checkpoints_the_weights_are_the_same():
    kept, not_kept = (train(batches, OPTIONS, checkpoints).weights for checkpoints in (Kept(), None))
    assert all(torch.equal(weight, not_kept[name]) for name, weight in kept.items())


def test_the_rate_goes_up_and_then_down_to_nothing():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert all(later <= earlier for earlier, later in pairwise(rates[9:]))
    assert rates[-1] < 0.001

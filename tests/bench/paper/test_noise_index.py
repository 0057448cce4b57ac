"""Mismatches are made by the published rules, and published indices are read without running anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.bench.paper.noise_index import draw_noise, read_noise
from curate.bench.paper.splits import Split
from curate.errors import InputError

IMAGES = 200
SPLIT = Split(
    tuple(Path(f"{image}.jpg") for image in range(IMAGES)),
    tuple(f"caption {row}" for row in range(5 * IMAGES)),
    np.arange(5 * IMAGES) // 5,
)


def test_decl_moves_all_captions_of_an_image_together():
    given = draw_noise(SPLIT, 0.4, "decl", seed=0).reshape(IMAGES, 5)
    assert (given == given[:, :1]).all()
    assert sorted(given[:, 0]) == list(range(IMAGES))
    assert 0.37 < (given[:, 0] != np.arange(IMAGES)).mean() <= 0.4


def test_ncr_moves_captions_one_by_one():
    given = draw_noise(SPLIT, 0.4, "ncr", seed=0)
    assert np.bincount(given).tolist() == [5] * IMAGES
    moved = given != SPLIT.image_of
    assert 0.37 < moved.mean() <= 0.4
    assert (moved.reshape(IMAGES, 5).sum(axis=1) % 5 != 0).any()


@pytest.mark.parametrize("protocol", ["decl", "ncr"])
def test_a_draw_depends_on_its_seed_alone(protocol):
    one, again, other = (draw_noise(SPLIT, 0.2, protocol, seed) for seed in (1, 1, 2))
    assert one.tolist() == again.tolist() != other.tolist()
    assert (draw_noise(SPLIT, 0, protocol, 1) == SPLIT.image_of).all()
    for rate in (1.0, -0.1):
        with pytest.raises(InputError, match="from 0 to below 1"):
            draw_noise(SPLIT, rate, protocol, 0)


def test_an_index_of_images_is_decl_s_and_one_of_captions_ncr_s(tmp_path):
    per_image = np.roll(np.arange(IMAGES), 1)
    per_caption = np.roll(SPLIT.image_of, 3)
    for index, expected in ((per_image, per_image[SPLIT.image_of]), (per_caption, per_caption)):
        np.save(tmp_path / "noise_inx_0.4.npy", index)
        assert read_noise(tmp_path / "noise_inx_0.4.npy", SPLIT).tolist() == expected.tolist()


class Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def test_a_pickle_is_refused_and_not_run(tmp_path):
    np.save(tmp_path / "noise.npy", np.array([Trap(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled objects are refused"):
        read_noise(tmp_path / "noise.npy", SPLIT)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.arange(7), r"shape \[7\] fits neither the 200 images"),
        (np.zeros((2, IMAGES), int), r"shape \[2, 200\]"),
        (np.arange(IMAGES) + 1, "from 0 to 199"),
        (np.arange(IMAGES) - 1, "from 0 to 199"),
        (np.arange(IMAGES) / 2, "whole numbers"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path, index, message):
    np.save(tmp_path / "noise.npy", index)
    with pytest.raises(InputError, match=message):
        read_noise(tmp_path / "noise.npy", SPLIT)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_noise(tmp_path / "none.npy", SPLIT)
    (tmp_path / "text.npy").write_text("0 1 2")
    with pytest.raises(InputError, match="plain array"):
        read_noise(tmp_path / "text.npy", SPLIT)
    np.savez(tmp_path / "two.npz", a=np.arange(3), b=np.arange(3))
    with pytest.raises(InputError, match="several arrays"):
        read_noise(tmp_path / "two.npz", SPLIT)

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from curate.noise.references import Batch, References, compare, map_compared
from curate.noise.similarity import CHUNK
from tests.noise.synthetic import corpus, unit


def random_references(rows, width=6, seed=0):
    """Pairs whose modalities share something, of any weight."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, width))
    image, text, caption = (unit(common + rng.standard_normal((rows, width))).astype(np.float32) for _ in range(3))
    joint_image, joint_text = (unit(common + rng.standard_normal((rows, width))).astype(np.float32) for _ in range(2))
    return References(
        image=image,
        text=text,
        joint_image=joint_image,
        joint_text=joint_text,
        sketch=rng.standard_normal((rows, 4)).astype(np.float32),
        caption=caption,
        agreement=(joint_image * joint_text).sum(axis=1),
        weight=rng.random(rows).astype(np.float32),
    )


def chosen(references, rows):
    """References at the given positions."""
    return References(**{field.name: getattr(references, field.name)[rows] for field in fields(References)})


def with_twins(references):
    """A batch whose row 1 shares a picture, and whose row 2 shares a caption, with references outside the batch."""
    batch = references.take(np.arange(12))
    batch.sketch[1] = references.sketch[-1]
    batch.caption[2] = references.caption[-2]
    return batch


def mates(batch, references, row):
    """Positions of the references that are no twins of a row."""
    return [
        j
        for j in range(len(references))
        if ((batch.sketch[row] - references.sketch[j]) ** 2).sum() > 0.0204
        and batch.caption[row] @ references.caption[j] <= 0.98
    ]


def topical(mismatched=0.3, rows=600):
    """A corpus in a joint space, compared with itself; weight is the rank of the similarity. (references, noisy)"""
    sample, noisy = corpus(rows=rows, mismatched=mismatched, joint_space=True)
    image, text = sample.image, sample.text
    similarity = (image * text).sum(axis=1)
    weight = (similarity.argsort().argsort() / (rows - 1)).astype(np.float32)
    return References(image, text, image, text, image, text, similarity, weight), noisy


def assert_same_however_cut(score):
    """`score`: batch, references -> array or arrays [n]. Rows keep their bytes alone, shifted and among others."""
    # Wide enough that products of another shape do round otherwise.
    references = random_references(301, width=200)
    batch = random_references(2 * CHUNK + 61, width=200, seed=1)
    whole = score(batch, references)
    alone = [slice(row, row + 1) for row in [*range(30), len(batch) - 1]]
    pieces = [slice(5, 300), slice(CHUNK - 1, CHUNK + 2), np.arange(len(batch))[::-1], np.arange(0, len(batch), 7)]
    for rows in alone + pieces:
        for part, all_rows in zip(score(batch.take(rows), references), whole, strict=True):
            assert part.tobytes() == all_rows[rows].tobytes()
            assert part.dtype in (np.float32, np.int32)


def test_cosines_are_those_of_slow_loops_and_twins_are_left_out():
    references = random_references(40)
    batch = with_twins(references)
    ((part, compared),) = compare(batch, references)
    assert part == slice(0, 12)
    for i in range(len(batch)):
        near = mates(batch, references, i)
        assert np.nonzero(~compared.twin[i])[0].tolist() == near
        assert compared.own[i] == pytest.approx(batch.joint_image[i] @ batch.joint_text[i], abs=1e-6)
        for name, mine, theirs in [
            ("image", batch.image, references.image),
            ("text", batch.text, references.text),
            ("to_texts", batch.joint_image, references.joint_text),
            ("to_images", batch.joint_text, references.joint_image),
        ]:
            cosines = getattr(compared, name)[i]
            np.testing.assert_allclose(cosines[near], theirs[near] @ mine[i], atol=1e-6)
            assert np.isneginf(np.delete(cosines, near)).all()


def test_a_pair_is_its_own_twin_and_shared_pictures_or_captions_make_twins():
    references = random_references(40)
    ((_, compared),) = compare(with_twins(references), references)
    expected = np.eye(12, 40, dtype=bool)
    expected[1, -1] = expected[2, -2] = True
    assert (compared.twin == expected).all()


def test_chunks_cover_the_batch_and_hide_their_padding():
    references = random_references(20)
    batch = random_references(CHUNK + 5, seed=1)
    sizes = [
        (part.start, part.stop, len(compared.pairs), compared.image.shape)
        for part, compared in compare(batch, references)
    ]
    assert sizes == [(0, CHUNK, CHUNK, (CHUNK, 20)), (CHUNK, CHUNK + 5, 5, (5, 20))]
    assert map_compared(lambda compared: compared.own, batch, references).tobytes() == batch.similarity().tobytes()


def test_an_empty_batch_has_no_scores():
    references = random_references(20)
    empty = references.take(slice(0, 0))
    assert len(empty) == 0
    assert map_compared(lambda compared: compared.own, empty, references).shape == (0,)


def test_cosines_do_not_depend_on_the_rows_beside():
    def largest(batch, references):
        names = ("image", "text", "to_texts", "to_images")
        return [map_compared(lambda c, name=name: getattr(c, name).max(axis=1), batch, references) for name in names]

    assert_same_however_cut(largest)


def test_taking_rows_takes_whole_pairs():
    references = random_references(20)
    some = references.take(np.array([7, 3]))
    for field in fields(Batch):
        assert (getattr(some, field.name) == getattr(references, field.name)[[7, 3]]).all()
    assert replace(some, sketch=some.sketch[:, :1]).similarity().shape == (2,)

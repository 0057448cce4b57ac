from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from curate.noise import features as module
from curate.noise.features import Features, concatenated, fit_reducer, mean_of_unit_rows, sketches
from curate.noise.similarity import CHUNK
from tests.noise.synthetic import corpus, unit


@pytest.fixture(scope="module")
def embeddings():
    sample, _ = corpus(rows=2 * CHUNK + 61)
    return sample.image, sample.text


def arrays(features):
    return {field.name: getattr(features, field.name) for field in fields(features)}


def test_features_are_those_of_slow_formulae(embeddings):
    image, text = embeddings
    reducer = fit_reducer(image, text, 20, 8)
    made = reducer(image, text)
    raw, caption = unit(image.astype(np.float64)), unit(text.astype(np.float64))
    centred = unit(raw - raw.mean(axis=0))
    reduced = centred @ reducer.basis
    expected = {
        "image": reduced,
        "image_unit": unit(reduced),
        "text": unit(caption - caption.mean(axis=0)),
        "raw_image": raw,
        "caption": caption,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(arrays(made)[name], values, atol=2e-6)
    sketch = centred @ reducer.sketch.basis
    np.testing.assert_allclose(made.sketch[:, :-1], sketch, atol=1e-3)
    np.testing.assert_allclose((made.sketch**2).sum(axis=1), 1, atol=5e-3)
    assert made.sketch.tobytes() == sketches(reducer.sketch, image).tobytes()


def test_the_basis_holds_most_of_the_variance(embeddings):
    from sklearn.decomposition import PCA

    image, text = embeddings
    reducer = fit_reducer(image, text, 20, 8)
    centred = unit(unit(image.astype(np.float64)) - reducer.image_mean)
    reference = PCA(20).fit(centred)
    np.testing.assert_allclose(reducer.basis.T @ reducer.basis, np.eye(20), atol=1e-5)
    np.testing.assert_allclose(
        np.var(centred @ reducer.basis, axis=0), reference.explained_variance_ * (1 - 1 / len(image)), rtol=1e-3
    )


@pytest.mark.parametrize(("rows", "asked", "kept"), [(189, 20, 20), (189, 400, 47), (100, 400, 25), (40, 30, 10)])
def test_a_small_sample_gets_few_dimensions(embeddings, rows, asked, kept):
    image, text = embeddings
    assert fit_reducer(image[:rows], text[:rows], asked, 8).basis.shape == (48, kept)


def test_nothing_is_learned_from_who_belongs_to_whom(embeddings):
    image, text = embeddings
    matched, shuffled = (fit_reducer(image, captions, 20, 8) for captions in (text, text[::-1].copy()))
    assert matched.basis.tobytes() == shuffled.basis.tobytes()
    assert matched.image_mean.tobytes() == shuffled.image_mean.tobytes()
    np.testing.assert_allclose(matched.text_mean, shuffled.text_mean, atol=1e-7)


def test_a_rows_features_do_not_depend_on_the_rows_beside(embeddings):
    image, text = embeddings
    reducer = fit_reducer(image, text, 20, 8)
    whole = reducer(image, text)
    for rows in [slice(0, 1), slice(70, 71), slice(5, 100), slice(CHUNK - 1, CHUNK + 2), np.arange(189)[::-1]]:
        part = reducer(image[rows], text[rows])
        for name, values in arrays(part).items():
            assert values.tobytes() == arrays(whole)[name][rows].tobytes()
    assert len(reducer(image[:0], text[:0])) == 0


def test_blocks_change_nothing_but_rounding(embeddings, monkeypatch):
    image, text = embeddings
    whole, mean = fit_reducer(image, text, 5, 3), mean_of_unit_rows(image)
    monkeypatch.setattr(module, "_BLOCK", 17)
    cut = fit_reducer(image, text, 5, 3)
    np.testing.assert_allclose(mean_of_unit_rows(image), mean, atol=1e-7)
    np.testing.assert_allclose(np.abs((cut.basis * whole.basis).sum(axis=0)), 1, atol=1e-4)


def test_rows_are_taken_and_joined_whole(embeddings):
    image, text = embeddings
    made = fit_reducer(image, text, 20, 8)(image, text)
    rows = np.array([7, 3, 100])
    for name, values in arrays(made.take(rows)).items():
        assert (values == arrays(made)[name][rows]).all()
    again = concatenated([made.take(slice(0, 50)), made.take(slice(50, 189))])
    assert isinstance(again, Features)
    assert all((values == arrays(made)[name]).all() for name, values in arrays(again).items())


def test_rounded_features_are_what_is_stored(embeddings):
    image, text = embeddings
    made = fit_reducer(image, text, 20, 8)(image, text).rounded()
    for values in arrays(made).values():
        assert (values.astype(np.float16).astype(np.float32) == values).all()


def test_raw_images_can_be_left_out(embeddings):
    image, text = embeddings
    made = fit_reducer(image, text, 20, 8)(image, text)
    bare = made.without_raw_images()
    assert bare.raw_image.shape == (189, 0)
    assert (bare.image == made.image).all()
    assert bare.take(slice(0, 5)).rounded().raw_image.shape == (5, 0)

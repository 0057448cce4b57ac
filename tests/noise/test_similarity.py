from __future__ import annotations

import numpy as np
import pytest

from curate.noise.similarity import CHUNK, centred_unit_rows, half, largest, map_rows, padded, top_mean, unit_rows


def test_rows_get_unit_length_and_zero_rows_stay_zero():
    rows = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert np.isfinite(centred_unit_rows(rows, np.array([0.6, 0.8], np.float32))).all()


def test_rows_are_scaled_centred_and_scaled_again():
    rows = np.array([[3.0, 4.0], [5.0, 0.0]], np.float16)
    centred = centred_unit_rows(rows, np.array([0.1, 0.3], np.float32))
    expected = np.array([[0.5, 0.5], [0.9, -0.3]]) / np.sqrt([[0.5], [0.9]])
    np.testing.assert_allclose(centred, expected, atol=1e-6)
    assert centred.dtype == np.float32


def test_half_keeps_what_half_precision_holds():
    values = np.array([0.1, 1.5, -2e-6, 1 + 2**-11 + 2**-20], np.float32)
    assert (half(values) == values.astype(np.float16)).all()
    assert (half(half(values)) == half(values)).all()


def test_top_mean_leaves_out_twins():
    rows = np.array([[5, 1, 4, -np.inf], [-np.inf] * 3 + [2], [-np.inf] * 4], np.float32)
    np.testing.assert_allclose(top_mean(rows, 2), [4.5, 2.0, 0.0])


@pytest.mark.parametrize("width", [3, 10, 160, 333, 2000, 2001])
def test_the_largest_values_are_found_at_any_width(width):
    values = np.random.default_rng(0).standard_normal((40, width)).astype(np.float32)
    found = largest(values, 10)
    expected = np.sort(values, axis=1)[:, -10:]
    assert (np.sort(np.take_along_axis(values, found, axis=1), axis=1) == expected).all()
    np.testing.assert_allclose(top_mean(values, 10), expected.mean(axis=1), atol=1e-5)


@pytest.mark.parametrize("width", [10, 333, 2000, 2001])
@pytest.mark.parametrize("others", [0, 1, 7])
def test_where_nearly_all_are_twins_the_few_others_are_found(width, others):
    rng = np.random.default_rng(1)
    values = np.full((30, width), -np.inf, np.float32)
    for row in values:
        row[rng.permutation(width)[:others]] = rng.standard_normal(others)
    found = largest(values, 10)
    assert found.min() >= 0
    assert found.max() < width
    near = np.take_along_axis(values, found, axis=1)
    assert (np.isfinite(near).sum(axis=1) == others).all()
    expected = [row[np.isfinite(row)].mean() if others else 0 for row in values]
    np.testing.assert_allclose(top_mean(values, 10), expected, atol=1e-5)


def test_a_rows_product_does_not_depend_on_where_it_stands():
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((300, 77)).astype(np.float32)
    rows = rng.standard_normal((3 * CHUNK + 5, 300)).astype(np.float32)
    whole = map_rows(lambda chunk: chunk @ weights, rows)
    for start, stop in [(0, 1), (5, 300), (CHUNK - 1, 2 * CHUNK + 3), (len(rows) - 1, len(rows))]:
        assert (map_rows(lambda chunk: chunk @ weights, rows[start:stop]) == whole[start:stop]).all()
    assert map_rows(lambda chunk: chunk @ weights, rows[:0]).shape == (0, 77)


def test_padding_is_zero_rows_behind():
    rows = np.ones((3, 2), np.float32)
    assert padded(rows).shape == (CHUNK, 2)
    assert padded(rows).sum() == 6
    assert (padded(rows)[:3] == 1).all()

"""The sparse table of who names what."""

import numpy as np

from curate.concepts.mentions import MentionTable

ROWS = [[0, 2], [], [1], [0, 1, 3], []]


def lists(table):
    return [sorted(piece.tolist()) for piece in np.split(table.concept, table.ends[:-1])]


def test_rows_come_back_in_any_order():
    table = MentionTable.of(ROWS, 4)
    assert lists(table) == ROWS
    assert lists(table.take(np.array([3, 1, 0, 3]))) == [ROWS[3], ROWS[1], ROWS[0], ROWS[3]]


def test_dense_columns_and_counts():
    table = MentionTable.of(ROWS, 4)
    dense = table.dense(slice(0, 4))
    assert [np.nonzero(row)[0].tolist() for row in dense] == ROWS
    np.testing.assert_array_equal(table.dense(slice(1, 3)), dense[:, 1:3])
    np.testing.assert_array_equal(table.documents(), dense.sum(axis=0))


def test_the_first_concepts_alone():
    assert lists(MentionTable.of(ROWS, 4).first(2)) == [[0], [], [1], [0, 1], []]

"""The map puts together what occurs together, and no two of its words overlap."""

import numpy as np

from curate.report.concepts import MAP_SIZE, concept_map

KITCHEN, STREET = ("cup", "plate", "spoon", "table"), ("car", "road", "bus", "sign")
NAMES = [*KITCHEN, *STREET]


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    groups = [KITCHEN if rng.random() < 0.5 else STREET for _ in range(300)]
    return [tuple(rng.choice(group, 3, replace=False)) for group in groups]


def test_concepts_that_share_pictures_are_near_and_joined():
    drawn = concept_map(pictures(), NAMES)
    distance = np.linalg.norm(drawn.places[:, None] - drawn.places[None], axis=2)
    within = [distance[a, b] for a in range(8) for b in range(8) if a != b and (a < 4) == (b < 4)]
    between = distance[:4, 4:]
    assert np.mean(within) < 0.6 * between.mean()
    assert all((a < 4) == (b < 4) for a, b, _ in drawn.links)
    assert {place for a, b, _ in drawn.links for place in (a, b)} == set(range(8))
    strengths = [strength for _, _, strength in drawn.links]
    assert strengths[0] == 1
    assert strengths == sorted(strengths, reverse=True)


def test_words_do_not_overlap_and_stay_on_the_map():
    names = [f"concept number {number}" for number in range(30)]
    rng = np.random.default_rng(0)
    drawn = concept_map([tuple(rng.choice(names, 4, replace=False)) for _ in range(500)], names)
    half = np.column_stack([[len(name) * 0.5 for name in names] * drawn.sizes / 2, drawn.sizes / 2])
    assert (drawn.places - half >= 0).all()
    assert (drawn.places + half <= MAP_SIZE).all()
    apart = np.abs(drawn.places[:, None] - drawn.places[None]) - (half[:, None] + half[None])
    overlapping = (apart < 0).all(axis=2) & ~np.eye(30, dtype=bool)
    assert not overlapping.any()


def test_the_order_of_pictures_changes_nothing():
    seen = pictures()
    one, other = concept_map(seen, NAMES), concept_map(seen[::-1], NAMES)
    np.testing.assert_array_equal(one.places, other.places)
    assert one.links == other.links


def test_few_concepts_have_a_map_too():
    for names in ([], ["cup"], ["cup", "plate"], ["never", "seen", "anywhere"]):
        drawn = concept_map(pictures(), names)
        assert len(drawn.places) == len(names)
        assert np.isfinite(drawn.places).all()

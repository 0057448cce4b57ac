"""Losses against slow references that follow the formulae word by word, and against finite differences."""

import math

import pytest
import torch

from curate.models.losses import (
    distribution_gap,
    dsdmr,
    dynamic_margins,
    info_nce,
    itc_losses,
    noise_adaptive_itc,
    npc,
    siglip,
)

SIZE = 6


def drawn(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(size, seed):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def logits():
    return drawn(SIZE, SIZE, scale=3.0).requires_grad_()


@pytest.fixture
def omega():
    return uniform(SIZE, 1)


def log_q(row, i, off=()):
    """log softmax(row)[i] over all but the places in `off`."""
    kept = [math.exp(value) for j, value in enumerate(row) if j not in off]
    return row[i] - math.log(sum(kept))


def both_ways(matrix):
    rows = matrix.tolist()
    return rows, [list(column) for column in zip(*rows, strict=True)]


def slow_itc(matrix, i):
    return -sum(log_q(rows[i], i) for rows in both_ways(matrix)) / 2


def slow_smoothed(matrix, i, omega):
    n = len(matrix)
    total = 0.0
    for rows in both_ways(matrix):
        total -= (1 - omega) * log_q(rows[i], i)
        total -= omega / (n - 1) * sum(log_q(rows[i], j) for j in range(n) if j != i)
    return total / 2


def close(tensor, value):
    assert float(tensor.detach()) == pytest.approx(value, abs=1e-9)


def test_info_nce_is_the_mean_of_both_cross_entropies(logits):
    expected = [slow_itc(logits, i) for i in range(SIZE)]
    torch.testing.assert_close(itc_losses(logits).detach(), torch.tensor(expected, dtype=torch.float64))
    close(info_nce(logits), sum(expected) / SIZE)


def test_info_nce_agrees_with_open_clips_loss(logits):
    targets = torch.arange(SIZE)
    cross_entropy = torch.nn.functional.cross_entropy
    close(info_nce(logits), float(cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2)


def test_siglip_is_a_sum_over_all_cells(logits):
    cells = [
        math.log1p(math.exp(-value if i == j else value))
        for i, row in enumerate(logits.tolist())
        for j, value in enumerate(row)
    ]
    close(siglip(logits), sum(cells) / SIZE)


def test_noise_adaptive_itc_smooths_each_row_by_its_own_omega(logits, omega):
    expected = [slow_smoothed(logits, i, float(omega[i])) for i in range(SIZE)]
    close(noise_adaptive_itc(logits, omega), sum(expected) / SIZE)


def test_without_smoothing_it_is_info_nce(logits):
    close(noise_adaptive_itc(logits, torch.zeros(SIZE)), float(info_nce(logits)))


def test_smoothing_pulls_a_pair_less(logits):
    """The more a pair is doubted, the less its own similarity is pushed up."""
    pushes = []
    for value in (0.0, 0.5, 1.0):
        smoothing = torch.zeros(SIZE, dtype=torch.float64)
        smoothing[2] = value
        (gradient,) = torch.autograd.grad(noise_adaptive_itc(logits, smoothing), logits)
        pushes.append(float(-gradient[2, 2]))
    assert pushes[0] > pushes[1] > pushes[2]


def slow_npc(logits, weight, memory):
    batch = sum(float(weight[i]) * slow_itc(logits, i) for i in range(len(logits))) / len(logits)
    return batch + sum(slow_itc(memory, i) for i in range(len(memory))) / len(memory)


def test_npc_weighs_each_pair_and_adds_the_bank(logits, omega):
    memory = drawn(4, 4, seed=3)
    close(npc(logits, omega, memory, torch.arange(4)), slow_npc(logits, omega, memory))


def test_npc_weights_count_before_the_mean_is_taken(logits):
    """The released code's first defect: mean(w) * mean(l) is blind to which pair a weight belongs to."""
    memory, entries = drawn(4, 4, seed=3), torch.arange(4)
    one, other = torch.zeros(SIZE, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)
    losses = itc_losses(logits)
    one[losses.argmax()], other[losses.argmin()] = 1, 1
    assert float(npc(logits, one, memory, entries)) > float(npc(logits, other, memory, entries)) + 0.01


def test_npc_learns_from_the_memory_bank(logits, omega):
    """The released code's second defect: a memory term under no_grad."""
    memory = drawn(4, 4, seed=3).requires_grad_()
    (gradient,) = torch.autograd.grad(npc(logits, omega, memory, torch.arange(4)), memory)
    assert (gradient.diagonal() < 0).all()


def test_a_memory_entry_that_two_pairs_share_is_not_its_own_negative(logits, omega):
    distinct = drawn(3, 3, seed=3)
    twice = distinct[[0, 1, 2, 2]][:, [0, 1, 2, 2]]
    shared = npc(logits, omega, twice, torch.tensor([7, 8, 9, 9])) - npc(logits, omega, distinct, torch.arange(3))
    naive = npc(logits, omega, twice, torch.arange(4)) - npc(logits, omega, distinct, torch.arange(3))
    assert abs(float(shared)) < abs(float(naive))
    row = [distinct.tolist()[2], [list(c) for c in zip(*distinct.tolist(), strict=True)][2]]
    copies = itc_losses(twice, torch.tensor([7, 8, 9, 9])[:, None] == torch.tensor([7, 8, 9, 9]))
    close(copies[3], -(log_q(row[0], 2) + log_q(row[1], 2)) / 2)


def slow_dsdmr(similarity, image, text, kept):
    total, n = 0.0, len(similarity)
    rows, columns = both_ways(similarity)
    for i in range(n):
        if kept[i]:
            total += max(0.0, float(image[i]) + max(rows[i][j] for j in range(n) if j != i) - rows[i][i])
            total += max(0.0, float(text[i]) + max(columns[i][j] for j in range(n) if j != i) - rows[i][i])
    return total / max(1, sum(kept))


@pytest.mark.parametrize("kept", [[True] * SIZE, [True, False, True, True, False, False], [False] * SIZE])
def test_dsdmr_compares_each_pair_with_its_hardest_negative(omega, kept):
    similarity = drawn(SIZE, SIZE, scale=0.3)
    image, text = dynamic_margins(omega)
    close(dsdmr(similarity, image, text, torch.tensor(kept)), slow_dsdmr(similarity, image, text, kept))


def test_all_pairs_are_anchors_unless_told_otherwise(omega):
    similarity = drawn(SIZE, SIZE, scale=0.3)
    image, text = dynamic_margins(omega)
    close(dsdmr(similarity, image, text), slow_dsdmr(similarity, image, text, [True] * SIZE))


def test_margins_grow_from_nothing_to_their_base_with_the_posterior():
    image, text = dynamic_margins(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(image, torch.tensor([0.0, 0.3 * (10**0.5 - 1) / 9, 0.3], dtype=torch.float64))
    torch.testing.assert_close(text, image * 2 / 3)


def test_the_gap_term_asks_for_a_distance_between_the_heaps():
    noise = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    near = torch.tensor([0.4, 0.3, 0.5, 0.3, 0.2, 0.4], dtype=torch.float64)
    variance = 2 * 0.02 / 3
    close(distribution_gap(near, noise, 3.0), 3 - 0.1 / math.sqrt(variance))
    close(distribution_gap(near - noise, noise, 3.0), 0.0)


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_one_heap_alone_has_no_gap(certain):
    close(distribution_gap(drawn(5), torch.full((5,), certain, dtype=torch.float64)), 0.0)


def test_gradients(logits, omega):
    memory = drawn(4, 4, seed=3).requires_grad_()
    entries = torch.tensor([1, 2, 3, 3])
    same = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    same[0, 1] = True
    image, text = dynamic_margins(omega)
    checks = [
        (lambda x: info_nce(x, same), (logits,)),
        (siglip, (logits,)),
        (lambda x: noise_adaptive_itc(x, omega, same), (logits,)),
        (lambda x, m: npc(x, omega, m, entries, same=same), (logits, memory)),
        (lambda x: dsdmr(x, image, text, same=same), (logits,)),
        (lambda x: distribution_gap(x.diagonal(), omega), (logits,)),
    ]
    for loss, inputs in checks:
        assert torch.autograd.gradcheck(loss, inputs)


def test_pairs_that_match_as_well_are_no_negatives(logits, omega):
    """Whatever similarity two pairs of one picture have, nothing changes; named one way round it holds both ways."""
    same = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    same[0, 1] = True
    changed = logits.detach().clone()
    changed[0, 1], changed[1, 0] = 50.0, -50.0
    image, text = dynamic_margins(omega)
    for loss in (
        lambda x: info_nce(x, same),
        lambda x: noise_adaptive_itc(x, omega, same),
        lambda x: dsdmr(x, image, text, same=same),
    ):
        close(loss(changed), float(loss(logits)))


def test_a_batch_of_one_has_nothing_to_learn_from():
    one = torch.tensor([[2.0]], dtype=torch.float64)
    close(info_nce(one), 0.0)
    close(noise_adaptive_itc(one, torch.ones(1)), 0.0)
    close(dsdmr(one, torch.ones(1), torch.ones(1)), 0.0)


def test_shapes_that_do_not_fit_are_named(logits):
    with pytest.raises(ValueError, match="must be square"):
        info_nce(logits[:, :3])
    with pytest.raises(ValueError, match="smoothing needs one value for each of 6 pairs, not \\(3,\\)"):
        noise_adaptive_itc(logits, torch.zeros(3))
    with pytest.raises(ValueError, match="same has the shape"):
        info_nce(logits, torch.zeros(2, 2, dtype=torch.bool))

"""The rivals give the weights that their originals give for the same losses.

Expected numbers were computed apart from this code, from the papers' formulas as LibMTL (UW, DWA) and
kohpangwei/group_DRO write them, or from the paper's text (GradNorm).
"""

import math

import numpy as np
import pytest
import torch

from pipeline.objectives.dwa import Dwa
from pipeline.objectives.gradnorm import GradNorm, updated_weights
from pipeline.objectives.group_dro import GroupDro
from pipeline.objectives.initial_losses import InitialLosses
from pipeline.objectives.uncertainty import Uncertainty

LOSSES = [
    [7.0, 3.0, 5.0],
    [6.0, 2.0, 5.0],
    [5.5, 1.0, 4.8],
    [5.0, 0.8, 4.0],
    [4.6, 0.7, 3.9],
    [4.5, 0.6, 3.2],
]
EVERY = torch.tensor([True, True, True])


def weights_of(objective, stats_of, every=1):
    """[K][T] for the written-out losses, each of which lasts for `every` steps."""
    found = []
    for step in range(len(LOSSES) * every):
        stats = stats_of(LOSSES[step // every], step=step)
        found.append(objective.coefficients(stats).tolist())
        objective.after_step(stats)
    return found[::every]


def close(expected):
    return pytest.approx(np.array(expected), abs=1e-6)


def test_uncertainty_is_libmtls(stats_of):
    """loss = Σ L / (2 exp(s)) + s / 2, s from −0.5 on, Adam with rate 0.1."""
    assert np.array(weights_of(Uncertainty(3, lr=0.1), stats_of)) == close(
        [
            [0.824361, 0.824361, 0.824361],
            [0.745912, 0.745912, 0.745912],
            [0.676071, 0.679469, 0.675241],
            [0.613996, 0.629076, 0.611950],
            [0.559095, 0.590544, 0.556331],
            [0.510692, 0.561041, 0.507252],
        ]
    )


def test_uncertainty_moves_as_autograd_and_torchs_adam_move_it(stats_of):
    log_variances = torch.full((3,), -0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_variances], lr=0.1)
    expected = []
    for losses in LOSSES:
        expected.append((0.5 * torch.exp(-log_variances)).tolist())
        optimizer.zero_grad()
        (torch.tensor(losses) / (2 * log_variances.exp()) + log_variances / 2).sum().backward()
        optimizer.step()
    assert np.array(weights_of(Uncertainty(3, lr=0.1), stats_of)) == pytest.approx(np.array(expected))


def test_uncertainty_of_an_absent_task_stays_where_it_is(stats_of):
    objective = Uncertainty(2, lr=0.1)
    objective.after_step(stats_of([7.0, 3.0]))
    _, before = objective.coefficients(stats_of([7.0, 3.0])).tolist()
    objective.after_step(stats_of([7.0, 3.0], [1, 0]))
    _, after = objective.coefficients(stats_of([7.0, 3.0])).tolist()
    assert before == after


def test_dwa_is_libmtls_with_windows_for_epochs(stats_of):
    """w = T softmax(r / 2), r = L(k − 1) / L(k − 2); all 1 in the first two."""
    expected = [
        [1.0, 1.0, 1.0],
        [1.0, 1.0, 1.0],
        [1.005632, 0.914277, 1.080091],
        [1.058634, 0.859544, 1.081822],
        [1.031018, 0.976287, 0.992695],
        [0.998126, 0.975919, 1.025955],
    ]
    for window in (1, 3):
        objective = Dwa(3, temperature=2.0, window=window)
        assert np.array(weights_of(objective, stats_of, every=window)) == close(expected)


def test_a_window_of_dwa_pools_losses_over_labels_and_passes_over_a_task_that_it_lacks(stats_of):
    pooled, plain = Dwa(2, 2.0, window=2), Dwa(2, 2.0, window=1)
    for step, (losses, counts) in enumerate(
        [([6.0, 4.0], [1, 1]), ([3.0, 4.0], [2, 1]), ([2.0, 4.0], [1, 0]), ([2.0, 4.0], [1, 0])]
    ):
        pooled.after_step(stats_of(losses, counts, step=step))
    for step, losses in enumerate([[4.0, 4.0], [2.0, 4.0]]):
        plain.after_step(stats_of(losses, step=step))
    now = stats_of([1.0, 1.0], step=9)
    assert torch.equal(pooled.coefficients(now), plain.coefficients(now))


def test_group_dro_is_the_published_rule(stats_of):
    """adv_probs *= exp(0.01 · loss), normalised, and then the step."""
    assert np.array(weights_of(GroupDro(3, step_size=0.01, memory=1.0), stats_of)) == close(
        [
            [0.340022, 0.326689, 0.333289],
            [0.345595, 0.319024, 0.335381],
            [0.351349, 0.310064, 0.338587],
            [0.357106, 0.302183, 0.340711],
            [0.362153, 0.294732, 0.343115],
            [0.367931, 0.287981, 0.344087],
        ]
    )


GRADIENT_NORMS = [
    [1.0, 0.5, 2.0],
    [0.8, 0.6, 1.5],
    [0.9, 0.4, 1.2],
    [0.7, 0.5, 1.0],
    [0.6, 0.3, 0.9],
    [0.5, 0.2, 0.8],
]


def test_gradnorm_is_the_papers_rule(stats_of):
    """α = 1.5, rate 0.025; L(0) is the loss of the first step."""
    objective, found = GradNorm(3, InitialLosses(3, window=1), asymmetry=1.5, lr=0.025), []
    for step, (losses, norms) in enumerate(zip(LOSSES, GRADIENT_NORMS, strict=True)):
        stats = stats_of(losses, step=step, norms=norms)
        objective.after_step(stats)
        found.append(objective.coefficients(stats).tolist())
    assert np.array(found) == close(
        [
            [1.029289, 1.016736, 0.953975],
            [1.050164, 1.032597, 0.917239],
            [1.057680, 1.008312, 0.934007],
            [1.064535, 0.985953, 0.949512],
            [1.068846, 0.968765, 0.962388],
            [1.085871, 0.967798, 0.946332],
        ]
    )


def test_gradnorm_moves_as_autograd_moves_it():
    weights = torch.tensor([1.2, 0.5, 1.3], dtype=torch.float64, requires_grad=True)
    losses, first, norms = (torch.tensor(v, dtype=torch.float64) for v in (*LOSSES[::-5], GRADIENT_NORMS[1]))
    weighted = weights * norms
    rates = (losses / first) / (losses / first).mean()
    (weighted - (weighted.mean() * rates**1.5).detach()).abs().sum().backward()
    moved = (weights - 0.025 * weights.grad).detach()
    found = updated_weights(weights.detach(), norms, losses, first, EVERY, alpha=1.5, lr=0.025)
    torch.testing.assert_close(found, 3 * moved / moved.sum())


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_gradnorm_keeps_the_weight_of_a_task_whose_gradient_is_not_known(stats_of, norm):
    objective = GradNorm(3, InitialLosses(3, window=1), asymmetry=1.5, lr=0.025)
    stats = stats_of([5.0, 5.0, 5.0], norms=[1.0, 3.0, norm])
    objective.after_step(stats)
    assert objective.coefficients(stats).tolist() == pytest.approx([3 * w / 2.95 for w in (1.025, 0.925, 1)])


def test_gradnorm_leaves_out_an_absent_task_and_lets_no_weight_vanish():
    weights = torch.tensor([0.1, 1.4, 1.5], dtype=torch.float64)
    losses, norms = torch.tensor([5.0, 5.0, 9.0]), torch.tensor([40.0, 1.0, 7.0])
    present = torch.tensor([True, True, False])
    found = updated_weights(weights, norms, losses, losses, present, alpha=1.5, lr=0.1)
    assert found[0] / found[2] == pytest.approx(0.001 / 1.5)
    assert found[2] / found[1] == pytest.approx(1.5 / (1.4 + 0.1))
    assert found.sum() == pytest.approx(3)

"""The softmax-weighted step is the gradient of what it is said to descend, and its limits are known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.objectives.alpha_schedule import rising_alpha, theorem_alpha
from pipeline.objectives.average import Average
from pipeline.objectives.minimax import Minimax
from pipeline.objectives.token_mean import TokenMean

tasks = st.lists(st.tuples(st.floats(0.01, 12), st.integers(1, 5_000)), min_size=2, max_size=9)


def minimax(alpha, prior_power=0.0):
    return Minimax(lambda step: alpha, prior_power)


def columns(tasks):
    losses, counts = zip(*tasks, strict=True)
    return list(losses), list(counts)


@settings(deadline=None)
@given(tasks, st.floats(0.01, 5))
def test_the_step_is_the_gradient_of_the_smooth_maximum(stats_of, tasks, alpha):
    losses, counts = columns(tasks)
    variable = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    smooth = torch.log(torch.exp(alpha * variable).mean()) / alpha
    (gradient,) = torch.autograd.grad(smooth, variable)
    torch.testing.assert_close(minimax(alpha).coefficients(stats_of(losses, counts)), gradient)


@settings(deadline=None)
@given(tasks, st.floats(0.01, 5), st.floats(0, 1))
def test_with_a_prior_it_is_the_gradient_of_the_smooth_maximum_over_shares(
    stats_of, tasks, alpha, prior_power
):
    losses, counts = columns(tasks)
    shares = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    variable = torch.tensor(losses, dtype=torch.float64, requires_grad=True)
    smooth = torch.log((shares**prior_power * torch.exp(alpha * variable)).sum()) / alpha
    (gradient,) = torch.autograd.grad(smooth, variable)
    weights = minimax(alpha, prior_power).coefficients(stats_of(losses, counts))
    torch.testing.assert_close(weights, gradient)


@settings(deadline=None)
@given(tasks)
def test_without_alpha_it_is_the_average_or_with_all_of_the_prior_the_token_mean(stats_of, tasks):
    stats = stats_of(*columns(tasks))
    torch.testing.assert_close(minimax(0.0).coefficients(stats), Average().coefficients(stats))
    torch.testing.assert_close(minimax(0.0, 1.0).coefficients(stats), TokenMean().coefficients(stats))


def test_a_large_alpha_has_eyes_for_the_worst_task_alone_however_rare_it_is(stats_of):
    stats = stats_of([3.0, 7.0, 6.9], [10_000, 1, 10_000])
    assert minimax(1_000.0).coefficients(stats).tolist() == pytest.approx([0, 1, 0])
    assert minimax(1_000.0, 1.0).coefficients(stats).tolist() == pytest.approx([0, 1, 0])


def test_equal_losses_give_equal_weights_unless_the_prior_tells_tasks_apart(stats_of):
    stats = stats_of([4.0, 4.0], [1, 3])
    assert minimax(2.0).coefficients(stats).tolist() == [0.5, 0.5]
    assert minimax(2.0, 1.0).coefficients(stats).tolist() == pytest.approx([0.25, 0.75])


def test_a_prior_gives_nothing_to_a_task_without_a_label(stats_of):
    stats = stats_of([4.0, 9.0], [3, 0])
    assert minimax(1.0, 0.1).coefficients(stats).tolist() == [1, 0]


def test_a_schedule_begins_low_and_reaches_alpha_at_the_last_step():
    assert [rising_alpha("constant", 2.0, 4)(step) for step in range(4)] == [2.0] * 4
    assert [rising_alpha("linear", 2.0, 4)(step) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    assert [rising_alpha("sqrt", 2.0, 4)(step) for step in (0, 3)] == [1.0, 2.0]


def test_the_theorems_alpha_is_its_formula_and_never_below_zero():
    """R₀L′ = 20, B = 10, T = 9, k = 24: 4·5/20 · log(4·9·10·5/20) = log 90."""
    assert theorem_alpha(20.0, 10.0, num_tasks=9)(24) == pytest.approx(math.log(90))
    assert theorem_alpha(20.0, 0.5, num_tasks=9)(0) == 0


def test_a_schedule_is_followed_step_by_step(stats_of):
    scheduled = Minimax(rising_alpha("linear", 3.0, 3))
    for step, alpha in enumerate((1.0, 2.0, 3.0)):
        stats = stats_of([1.0, 2.0], step=step)
        assert torch.equal(scheduled.coefficients(stats), minimax(alpha).coefficients(stats))

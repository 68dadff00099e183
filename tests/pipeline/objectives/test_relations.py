"""Objectives that are others in the limit; losses on other scales."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.objectives.excess import Excess
from pipeline.objectives.group_dro import GroupDro
from pipeline.objectives.initial_losses import InitialLosses
from pipeline.objectives.minimax import Minimax
from pipeline.objectives.normalised import Normalised
from pipeline.objectives.static import Static
from pipeline.objectives.tchebycheff import Tchebycheff

TASKS = ("a", "b", "c")
losses = st.lists(st.floats(0.01, 12), min_size=3, max_size=3)


def minimax(alpha, prior_power=0.0):
    return Minimax(lambda step: alpha, prior_power)


@settings(deadline=None)
@given(losses, losses)
def test_group_dro_without_memory_is_minimax(stats_of, earlier, now):
    dro = GroupDro(3, step_size=0.7, memory=0.0)
    dro.after_step(stats_of(earlier))
    torch.testing.assert_close(
        dro.coefficients(stats_of(now)), minimax(0.7).coefficients(stats_of(now)), rtol=1e-12, atol=0
    )


def test_group_dro_with_memory_is_minimax_on_the_decayed_sum_of_all_losses(stats_of):
    dro = GroupDro(2, step_size=0.5, memory=0.8)
    for loss in ([3.0, 1.0], [2.0, 2.5]):
        dro.after_step(stats_of(loss))
    totals = stats_of([0.64 * 3 + 0.8 * 2 + 4, 0.64 * 1 + 0.8 * 2.5 + 1])
    torch.testing.assert_close(dro.coefficients(stats_of([4.0, 1.0])), minimax(0.5).coefficients(totals))


def test_a_task_that_group_dro_sees_for_the_first_time_starts_at_the_mean_of_the_others(stats_of):
    dro = GroupDro(3, step_size=1.0, memory=1.0)
    dro.after_step(stats_of([3.0, 1.0, 0.0], [1, 1, 0], valid=[True, True, False]))
    weights = dro.coefficients(stats_of([0.0, 0.0, 0.0]))
    assert weights[2] == pytest.approx((weights[0] + weights[1]) / 2)


@settings(deadline=None)
@given(losses, losses)
def test_tchebycheff_at_mu_one_has_the_direction_of_static_weights_one_over_the_first_losses(
    stats_of, first, now
):
    tchebycheff = Tchebycheff(InitialLosses(3, window=1), mu=1.0)
    tchebycheff.after_step(stats_of(first))
    found = tchebycheff.coefficients(stats_of(now, step=1))
    static = Static({task: 1 / loss for task, loss in zip(TASKS, first, strict=True)}, TASKS)
    torch.testing.assert_close(found / found.sum(), static.coefficients(stats_of(now)))


@settings(deadline=None)
@given(losses, losses, st.floats(0.05, 1))
def test_the_step_of_tchebycheff_is_the_gradient_of_its_function(stats_of, first, now, mu):
    tchebycheff = Tchebycheff(InitialLosses(3, window=1), mu)
    tchebycheff.after_step(stats_of(first))
    variable = torch.tensor(now, dtype=torch.float64, requires_grad=True)
    value = mu * torch.logsumexp(torch.log(variable / torch.tensor(first)) / mu, 0)
    (gradient,) = torch.autograd.grad(value, variable)
    found = tchebycheff.coefficients(stats_of(now, step=1))
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


@settings(deadline=None)
@given(losses)
def test_excess_over_nothing_is_minimax_and_over_the_losses_themselves_the_average(stats_of, now):
    nothing = Excess(minimax(2.0), dict.fromkeys(TASKS, 0.0), TASKS)
    assert torch.equal(nothing.coefficients(stats_of(now)), minimax(2.0).coefficients(stats_of(now)))
    everything = Excess(minimax(2.0), dict(zip(TASKS, now, strict=True)), TASKS)
    assert everything.coefficients(stats_of(now)).tolist() == pytest.approx([1 / 3] * 3)


@settings(deadline=None)
@given(losses, st.floats(0.1, 3))
def test_on_a_log_scale_the_step_is_the_gradient_through_the_logarithm(stats_of, now, alpha):
    variable = torch.tensor(now, dtype=torch.float64, requires_grad=True)
    value = torch.logsumexp(alpha * torch.log(variable), 0) / alpha
    (gradient,) = torch.autograd.grad(value, variable)
    found = Normalised(minimax(alpha), None).coefficients(stats_of(now))
    torch.testing.assert_close(found, gradient)


@settings(deadline=None)
@given(losses, losses, st.floats(0.1, 3))
def test_over_the_first_losses_the_step_is_the_gradient_through_the_ratio(stats_of, first, now, alpha):
    normalised = Normalised(minimax(alpha), InitialLosses(3, window=1))
    normalised.after_step(stats_of(first))
    variable = torch.tensor(now, dtype=torch.float64, requires_grad=True)
    ratios = variable / torch.tensor(first, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(torch.logsumexp(alpha * ratios, 0) / alpha, variable)
    found = normalised.coefficients(stats_of(now, step=1))
    torch.testing.assert_close(found, gradient)


def test_first_losses_are_pooled_over_their_window_and_late_tasks_join_with_their_first_step(stats_of):
    initial = InitialLosses(3, window=2)
    initial.after_step(stats_of([6.0, 5.0, 0.0], [1, 2, 0], step=0))
    initial.after_step(stats_of([3.0, 4.0, 0.0], [2, 2, 0], step=1))
    initial.after_step(stats_of([1.0, 1.0, 7.0], [9, 9, 3], step=2))
    initial.after_step(stats_of([1.0, 1.0, 2.0], [9, 9, 9], step=3))
    assert initial.of(stats_of([1.0, 1.0, 1.0])).tolist() == [4.0, 4.5, 7.0]


def test_an_objective_that_looks_back_remembers_losses_on_its_scale(stats_of):
    dro = Normalised(GroupDro(2, step_size=0.5, memory=0.8), None)
    dro.after_step(stats_of([3.0, 1.0]))
    totals = stats_of([0.8 * math.log(3) + math.log(4), 0.0])
    expected = minimax(0.5).coefficients(totals) / torch.tensor([4.0, 1.0])
    torch.testing.assert_close(dro.coefficients(stats_of([4.0, 1.0])), expected)

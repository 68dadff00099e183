"""From global sums and counts to coefficients; absent is never loss 0."""

import math

import pytest
import torch

from pipeline.data.interface import LossTerms
from pipeline.engine.estimator import CoefficientRule
from pipeline.objectives.average import Average
from pipeline.objectives.minimax import Minimax
from pipeline.objectives.token_mean import TokenMean

TERMS = LossTerms(("a", "b", "c", "nsp"), (None, None, None, 0.5))


def rule(objective, estimator="two_pass", decay=0.9, terms=TERMS):
    return CoefficientRule(objective, terms, estimator, decay, torch.device("cpu"))


def minimax(alpha):
    return Minimax(lambda step: alpha)


def global_sums(*means_and_counts):
    means, counts = zip(*means_and_counts, strict=True)
    counts = torch.tensor(counts)
    return torch.tensor(means, dtype=torch.float64) * counts, counts


def test_minimax_weighs_pooled_means_and_leaves_the_auxiliary_loss_its_weight():
    sums, counts = global_sums((2.0, 5), (1.0, 1), (3.0, 2), (0.7, 4))
    expected = torch.softmax(torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64), 0)
    coefficients = rule(minimax(1.0)).coefficients(0, sums, counts, counts)
    torch.testing.assert_close(coefficients, torch.cat([expected, torch.tensor([0.5], dtype=torch.float64)]))


def test_a_rare_task_counts_with_its_pooled_mean_not_with_a_mean_of_means():
    """Loss 6 in one of 32 micro-batches and absent from the others: pooled 6.0."""
    sums, counts = torch.tensor([6.0, 96.0, 96.0, 0.0], dtype=torch.float64), torch.tensor([1, 32, 32, 0])
    weights = rule(minimax(1.0)).coefficients(0, sums, counts, counts)
    assert weights[0] / weights[1] == pytest.approx(math.exp(6 - 3))


def test_an_absent_task_gets_nothing_and_the_present_ones_are_renormalised():
    for objective, expected in ((Average(), [0.5, 0.0, 0.5]), (minimax(0.0), [0.5, 0.0, 0.5])):
        state = rule(objective)
        state.after_step(0, *global_sums((4.0, 2), (9.0, 2), (4.0, 2), (0.7, 4)))
        sums, counts = global_sums((4.0, 2), (0.0, 0), (4.0, 2), (0.7, 4))
        needed = sums if state.needs_losses(0) else None
        assert state.coefficients(0, needed, counts, counts)[:3].tolist() == pytest.approx(expected)


def test_weights_that_all_lie_on_an_absent_task_fall_back_to_the_present_ones():
    state = rule(minimax(1_000.0))
    state.after_step(0, *global_sums((1.0, 2), (9.0, 2), (1.0, 2), (0.7, 4)))
    sums, counts = global_sums((1.0, 2), (0.0, 0), (1.0, 2), (0.7, 4))
    coefficients = state.coefficients(0, sums, counts, counts)
    assert coefficients[:3].tolist() == pytest.approx([0.5, 0.0, 0.5])


def test_a_part_of_a_step_gives_weights_that_sum_to_one_over_the_tasks_of_the_whole_step():
    """A task that is absent from this part keeps its last known loss, or stands at the mean of the others."""
    step_counts = torch.tensor([4, 4, 4, 4])
    sums, counts = global_sums((2.0, 2), (0.0, 0), (4.0, 2), (0.7, 2))
    unseen = rule(minimax(1.0), "batch")
    expected = torch.softmax(torch.tensor([2.0, 3.0, 4.0]), 0)
    assert unseen.coefficients(0, sums, counts, step_counts)[:3].tolist() == pytest.approx(expected.tolist())
    seen = rule(minimax(1.0), "batch")
    seen.after_step(0, *global_sums((1.0, 1), (9.0, 1), (1.0, 1), (0.7, 1)))
    expected = torch.softmax(torch.tensor([2.0, 9.0, 4.0]), 0)
    assert seen.coefficients(0, sums, counts, step_counts)[:3].tolist() == pytest.approx(expected.tolist())


def test_an_absent_auxiliary_loss_has_no_weight():
    sums, counts = global_sums((4.0, 2), (1.0, 1), (4.0, 2), (0.0, 0))
    assert rule(Average()).coefficients(0, None, counts, counts)[3] == 0
    assert rule(minimax(1.0)).coefficients(0, sums, counts, counts)[3] == 0


def test_ema_starts_alike_and_then_weighs_decayed_sums_over_decayed_counts():
    state = rule(minimax(1.0), "ema", decay=0.5)
    counts = torch.tensor([1, 1, 1, 1])
    assert not state.needs_losses(0)
    assert state.coefficients(0, None, counts, counts)[:3].tolist() == pytest.approx([1 / 3] * 3)
    state.after_step(0, *global_sums((2.0, 4), (1.0, 4), (1.0, 4), (0.7, 4)))
    state.after_step(0, *global_sums((8.0, 1), (1.0, 4), (1.0, 4), (0.7, 4)))
    pooled = (0.25 * 8.0 + 0.5 * 8.0) / (0.25 * 4 + 0.5 * 1)
    expected = torch.softmax(torch.tensor([pooled, 1.0, 1.0]), 0)
    assert state.coefficients(0, None, counts, counts)[:3].tolist() == pytest.approx(expected.tolist())


def test_the_state_goes_on_after_a_restart():
    first = rule(minimax(1.0), "ema")
    first.after_step(0, *global_sums((2.1, 3), (1.0, 7), (0.3, 1), (0.7, 4)))
    again = rule(minimax(1.0), "ema")
    again.load_state_dict(first.state_dict())
    counts = torch.tensor([1, 0, 1, 1])
    assert torch.equal(
        first.coefficients(0, None, counts, counts), again.coefficients(0, None, counts, counts)
    )


def test_labels_of_no_task_are_trained_by_an_objective_that_says_so_and_by_no_other():
    terms = LossTerms(("a", "b", "others", "nsp"), (None, None, 0.0, 0.5), untasked="others")
    sums, counts = global_sums((2.0, 5), (1.0, 1), (3.0, 2), (0.7, 4))
    token_mean = rule(TokenMean(), terms=terms).coefficients(0, None, counts, counts)
    assert token_mean.tolist() == pytest.approx([5 / 8, 1 / 8, 2 / 8, 0.5])
    assert rule(minimax(1.0), terms=terms).coefficients(0, sums, counts, counts)[2] == 0


def test_the_prior_is_that_of_the_whole_step_even_where_the_losses_are_those_of_a_part():
    """Or a rare task that lies in one micro-batch would have as many times its weight as there are parts."""
    step_counts = torch.tensor([6, 3, 1, 4])
    sums, counts = global_sums((2.0, 1), (1.0, 0), (3.0, 1), (0.7, 1))
    of_labels = rule(Minimax(lambda step: 0.0, prior_power=1.0), "batch")
    assert of_labels.coefficients(0, sums, counts, step_counts)[:3].tolist() == pytest.approx([0.6, 0.3, 0.1])


def test_ema_does_not_take_a_task_that_was_absent_for_long_for_one_without_loss():
    state = rule(minimax(1.0), "ema", decay=0.01)
    state.after_step(0, *global_sums((2.0, 4), (5.0, 1), (1.0, 4), (0.7, 4)))
    for step in range(1, 200):  # 0.01^200 is 0
        state.after_step(step, *global_sums((2.0, 4), (0.0, 0), (1.0, 4), (0.7, 4)))
    counts = torch.tensor([1, 1, 1, 1])
    expected = torch.softmax(torch.tensor([2.0, 5.0, 1.0]), 0)
    found = state.coefficients(200, None, counts, counts)[:3]
    assert found.tolist() == pytest.approx(expected.tolist())


def test_a_moving_average_is_as_good_as_so_many_labels():
    """At first as many as there were; with n in every step n (1 + β) / (1 − β) in the end."""
    state = rule(minimax(1.0), "ema", decay=0.9)
    labels = global_sums((2.0, 4), (1.0, 1), (1.0, 0), (0.7, 4))
    state.after_step(0, *labels)
    assert state.effective_counts.tolist() == pytest.approx([4, 1, 0])
    for step in range(1, 200):
        state.after_step(step, *labels)
    assert state.effective_counts.tolist() == pytest.approx([76, 19, 0])
    assert rule(minimax(1.0), "two_pass").effective_counts is None

"""What holds for all objectives, whatever they descend."""

import json

import pytest
import torch

from pipeline.config import ObjectiveConfig
from pipeline.data.interface import LossTerms
from pipeline.engine.estimator import CoefficientRule
from pipeline.objectives import OBJECTIVES, build_objective

TASKS = ("noun", "verb", "adverb", "pronoun")
SETTINGS = {
    "average": {},
    "token_mean": {},
    "static": {"weights": {"noun": 1, "verb": 2, "adverb": 0.5, "pronoun": 4}},
    "minimax": {},
    "minimax, tempered and scheduled": {"prior_power": 0.6, "alpha_schedule": "sqrt"},
    "minimax, theorem": {"alpha_schedule": "theorem", "radius_lipschitz": 20.0, "loss_bound": 10.0},
    "minimax, initial": {"normalise": "initial", "window": 3},
    "minimax, log": {"normalise": "log"},
    "minimax, warm": {"start_step": 3, "start_name": "average"},
    "excess": {"reference_losses": {"noun": 4, "verb": 3, "adverb": 2.5, "pronoun": 1}},
    "group_dro": {"step_size": 0.1},
    "group_dro, forgetful and log": {"step_size": 0.5, "memory": 0.7, "normalise": "log"},
    "group_dro, warm": {"step_size": 0.1, "start_step": 3},
    "tchebycheff": {"mu": 0.5, "window": 3},
    "uncertainty": {"lr": 0.1},
    "dwa": {"window": 2},
    "famo": {},
    "famo, warm": {"start_step": 2},
    "gradnorm": {"window": 1},
    "gradnorm, warm": {"window": 3, "start_step": 2},
}
SUM_IS_ONE = [
    *("average", "token_mean", "static", "minimax", "minimax, tempered and scheduled", "minimax, theorem"),
    *("minimax, warm", "excess", "group_dro", "group_dro, warm", "famo", "famo, warm"),
]
NUM_STEPS = 8


def section(setting):
    return ObjectiveConfig(name=setting.split(",")[0], **SETTINGS[setting])


def build(setting, tasks=TASKS):
    return build_objective(section(setting), tasks, NUM_STEPS)


def losses_and_counts(num_steps, seed=0):
    """[K, T] losses that come down, noisily, and counts, some of them 0."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(num_steps, len(TASKS), generator=random, dtype=torch.float64)
    fall = torch.linspace(1, 0.4, num_steps, dtype=torch.float64)[:, None]
    losses = fall * torch.tensor([8.0, 7.0, 5.0, 3.0]) + noise
    counts = torch.randint(0, 30, (num_steps, len(TASKS)), generator=random)
    counts[:, 0] += 1
    return losses, counts


def coefficients_of(objective, stats_of, losses, counts):
    """[K, T] of a sequence of steps, in which all tasks were seen before."""
    found = []
    for step, (loss, count) in enumerate(zip(losses.tolist(), counts.tolist(), strict=True)):
        stats = stats_of(loss, count, step=step)
        found.append(objective.coefficients(stats))
        objective.after_step(stats)
    return torch.stack(found)


def test_there_is_a_setting_of_every_objective():
    assert {setting.split(",")[0] for setting in SETTINGS} == OBJECTIVES.keys()


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_coefficient_is_negative_and_they_move_with_the_steps_unless_they_are_fixed(stats_of, setting):
    found = coefficients_of(build(setting), stats_of, *losses_and_counts(NUM_STEPS))
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert (found == found[0]).all() == (setting in ("average", "static"))


@pytest.mark.parametrize("setting", SUM_IS_ONE)
def test_coefficients_of_a_distribution_sum_to_one(stats_of, setting):
    found = coefficients_of(build(setting), stats_of, *losses_and_counts(NUM_STEPS))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(NUM_STEPS, dtype=torch.float64))


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_order_of_the_tasks_changes_nothing(stats_of, setting):
    order = [2, 0, 3, 1]
    losses, counts = losses_and_counts(NUM_STEPS)
    found = coefficients_of(build(setting), stats_of, losses, counts)
    other = build(setting, [TASKS[task] for task in order])
    reordered = coefficients_of(other, stats_of, losses[:, order], counts[:, order])
    torch.testing.assert_close(reordered, found[:, order], rtol=1e-12, atol=0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_task_that_was_never_seen_has_no_weight_and_its_loss_is_not_looked_at(stats_of, setting):
    objectives = [build(setting), build(setting)]
    valid, counts = [True, True, True, False], [3, 2, 1, 0]
    for step in range(NUM_STEPS):
        of_both = []
        for objective, unknown in zip(objectives, (0.0, 100.0), strict=True):
            stats = stats_of([6.0 - step / 2, 4.0, 3.0, unknown], counts, step=step, valid=valid)
            of_both.append(objective.coefficients(stats))
            objective.after_step(stats)
        assert of_both[0][3] == 0
        assert torch.equal(*of_both)


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_that_says_that_it_reads_no_losses_of_the_step_does_not(stats_of, setting):
    objective = build(setting)
    losses, counts = losses_and_counts(NUM_STEPS)
    for step, (loss, count) in enumerate(zip(losses.tolist(), counts.tolist(), strict=True)):
        stats, others = stats_of(loss, count, step=step), stats_of([9.0, 1.0, 7.0, 2.0], count, step=step)
        is_blind = torch.equal(objective.coefficients(stats), objective.coefficients(others))
        assert is_blind == (not objective.reads_losses(step))
        objective.after_step(stats)


@pytest.mark.parametrize("estimator", ["two_pass", "ema"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_that_was_stopped_goes_on_with_the_same_coefficients_bit_for_bit(setting, estimator):
    whole, until = rule(setting, estimator), rule(setting, estimator)
    losses, counts = losses_and_counts(NUM_STEPS)
    expected = [take_step(whole, step, losses, counts) for step in range(NUM_STEPS)]
    for stop in range(NUM_STEPS):
        then = rule(setting, estimator)
        then.load_state_dict(json.loads(json.dumps(until.state_dict(), allow_nan=False)))
        assert torch.equal(take_step(then, stop, losses, counts), expected[stop])
        take_step(until, stop, losses, counts)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_shows_its_objective_every_step_under_its_number(stats_of, setting):
    losses, counts = losses_and_counts(NUM_STEPS)
    expected = coefficients_of(build(setting), stats_of, losses, counts + 1)
    of_run = rule(setting, "two_pass")
    for step in range(NUM_STEPS):
        torch.testing.assert_close(take_step(of_run, step, losses, counts + 1), expected[step])


@pytest.mark.parametrize("setting", SETTINGS)
def test_before_any_loss_is_known_coefficients_are_no_larger_than_later(setting):
    """The logarithm and the inverse of a loss that is not known must not be those of 0."""
    losses, counts = losses_and_counts(1)
    assert 0 < take_step(rule(setting, "ema"), 0, losses, counts + 1).sum() <= len(TASKS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_absent_task_gets_no_gradient_and_the_others_its_share(setting):
    """Its share is of what the objective would give; token_mean and a prior give an absent task nothing."""
    absent = rule(setting, "two_pass")
    losses, counts = losses_and_counts(NUM_STEPS)
    counts[:, 1] = torch.arange(NUM_STEPS) % 2
    for step in range(NUM_STEPS):
        found = take_step(absent, step, losses, counts)
        assert (found[counts[step] == 0] == 0).all()
        if setting in SUM_IS_ONE:
            assert found.sum() == pytest.approx(1)


def rule(setting, estimator):
    terms = LossTerms(TASKS, (None,) * len(TASKS))
    config = section(setting).model_copy(update={"estimator": estimator})
    return CoefficientRule.of(config, terms, NUM_STEPS, torch.device("cpu"))


def take_step(rule, step, losses, counts):
    """Coefficients, after which the rule has seen the step."""
    count = counts[step]
    sums = losses[step] * count
    found = rule.coefficients(step, sums if rule.needs_losses(step) else None, count, count)
    rule.after_step(step, sums, count, losses[step])
    return found

"""Softmax-weighted gradient descent on convex tasks keeps what Theorem 3.1 promises."""

import math

import pytest
import torch
from task_kernels import softmax_weights

from pipeline.theory.convex_tasks import PROBLEMS, crowd
from pipeline.theory.descent import Rule, Run, descend
from pipeline.theory.theorem_3_1 import (
    CONSTANT,
    SUBGRADIENT,
    THEOREM,
    WITHOUT_LOG,
    curves,
    plateau,
    rules_of,
    step_counts,
    theorem_rule,
)


@pytest.fixture(scope="module")
def found():
    return curves(step_counts(3_200), [2, 9, 81])


def only(found, rule, problem=None):
    return [curve for curve in found if curve.rule == rule and problem in (None, curve.problem)]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("num_tasks", [2, 9])
def test_the_constants_of_a_problem_are_those_of_its_losses(problem, num_tasks):
    tasks = PROBLEMS[problem](num_tasks)
    generator = torch.Generator().manual_seed(0)
    points = 2 * tasks.radius * torch.rand(500, len(tasks.start), generator=generator, dtype=torch.float64)
    points = (points - tasks.radius) / math.sqrt(len(tasks.start))
    gaps = torch.tensor([tasks.gap(point) for point in points], dtype=torch.float64)
    assert tasks.gap(torch.zeros_like(tasks.start)) == pytest.approx(0, abs=1e-11)
    assert gaps.min() > 0
    assert gaps.max() + tasks.optimum <= tasks.bound
    assert gaps.diff().abs().div(points.diff(dim=0).norm(dim=1)).max() <= tasks.lipschitz + 1e-9


def test_the_schedule_is_the_theorems():
    tasks = crowd(9)
    reach = tasks.radius * tasks.lipschitz
    for step in (0, 1, 99_999):
        root = math.sqrt(step + 1)
        expected = 4 * root / reach * math.log(4 * 9 * tasks.bound * root / reach)
        assert theorem_rule(tasks).alpha(step) == pytest.approx(expected, rel=1e-12)


def test_runs_that_step_together_go_where_each_goes_alone():
    runs = [Run(build(n), Rule(per_root=n), 7 * n) for build in PROBLEMS.values() for n in (2, 5)]
    for run, outcome in zip(runs, descend(runs), strict=True):
        tasks, theta, total = run.tasks, run.tasks.start.clone(), 0
        for step in range(run.num_steps):
            theta.requires_grad_()
            residuals = theta[tasks.coordinates] - tasks.centres
            losses = torch.nn.functional.huber_loss(
                residuals, torch.zeros_like(residuals), reduction="none", delta=tasks.width
            ).div(tasks.width)
            weights = softmax_weights(
                losses, run.rule.alpha(step), torch.ones(tasks.num_tasks, dtype=torch.bool)
            )
            (gradient,) = torch.autograd.grad(weights @ losses, theta)
            theta = theta.detach()
            total = total + theta
            theta = theta - tasks.radius / math.sqrt(run.num_steps) * gradient
        torch.testing.assert_close(outcome.average, total / run.num_steps)


@pytest.mark.parametrize("rule", [THEOREM, WITHOUT_LOG, SUBGRADIENT])
def test_the_gap_is_below_the_bound(found, rule):
    assert max(max(curve.over_bound()) for curve in only(found, rule)) <= 1


def test_the_bound_is_no_more_than_ten_times_too_wide(found):
    assert min(min(curve.over_bound()) for curve in only(found, THEOREM)) >= 0.1


def test_the_gap_falls_like_one_over_the_root_of_the_steps(found):
    assert all(-0.65 <= curve.slope() <= -0.45 for curve in only(found, THEOREM))


def test_no_iterate_goes_further_than_twice_the_radius(found):
    assert all(curve.farthest <= 2 * curve.tasks.radius for curve in only(found, THEOREM))


def test_a_constant_alpha_ends_where_the_crowd_outvotes_the_worst_task():
    tasks, alphas = crowd(9), [1.5, 3.0, 10.0]
    outcomes = descend([Run(tasks, Rule(constant=alpha), 5_000) for alpha in alphas])
    gaps = [tasks.gap(outcome.average) for outcome in outcomes]
    assert gaps == pytest.approx([plateau(9, alpha) for alpha in alphas], abs=0.04)


def test_alpha_of_1_breaks_the_bound(found):
    assert max(only(found, CONSTANT, "crowd")[1].over_bound()) > 5
    assert all(curve.slope() > -0.05 for curve in only(found, CONSTANT, "crowd")[1:])


def test_the_least_alpha_that_is_proven_is_smaller_than_the_theorems():
    rules = rules_of(crowd(9))
    assert all(rules[WITHOUT_LOG].alpha(step) < rules[THEOREM].alpha(step) / 2 for step in (0, 10, 10_000))

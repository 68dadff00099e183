"""What minimax and average pre-training leave on the worst task: Proposition 5.1 and Remark 5.2."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pipeline.theory.proposition_5_1 import random_instances, random_tasks, share_won_by_minimax
from pipeline.theory.quadratics import isotropic, steepness_bound, worst_case_ratio
from pipeline.theory.remark_5_2 import growth, hinge_ratio, outvoted, outvoted_ratio, ratios

TASK_COUNTS = [2, 9, 50, 200, 1000]


@pytest.fixture(scope="module")
def instances():
    return random_instances(9, torch.Generator().manual_seed(1))


def test_the_minimax_optimum_is_the_one_that_a_general_solver_finds():
    tasks = random_tasks(7, 4, 2.0, torch.Generator().manual_seed(3))
    found = tasks.minimax()
    epigraph = minimize(
        lambda point: point[-1],
        np.append(found.theta.numpy() + 0.1, 100.0),
        constraints={"type": "ineq", "fun": lambda p: p[-1] - tasks.losses(torch.from_numpy(p[:-1])).numpy()},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.value == pytest.approx(epigraph.fun, rel=2e-5)
    assert 0 <= found.gap <= 1e-5 * found.value


def test_no_weights_of_the_tasks_prove_more_than_the_minimax_value():
    tasks = random_tasks(5, 3, 1.0, torch.Generator().manual_seed(0))
    weights = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(5), size=50))
    lower = [float(w @ tasks.losses(tasks.weighted_minimiser(w))) for w in weights]
    assert max(lower) <= tasks.minimax().value


@settings(max_examples=25, deadline=None)
@given(
    num_tasks=st.integers(2, 12),
    dimensions=st.integers(1, 5),
    decades=st.floats(0, 3),
    seed=st.integers(0, 10_000),
)
def test_average_is_worse_than_minimax_by_no_more_than_tasks_and_steepness_allow(
    num_tasks, dimensions, decades, seed
):
    tasks = random_tasks(num_tasks, dimensions, decades, torch.Generator().manual_seed(seed))
    ratio = worst_case_ratio(tasks)
    assert 1 - 1e-5 <= ratio <= min(num_tasks, steepness_bound(tasks.steepness()))


def test_minimax_wins_over_all_mixtures_but_not_over_blends(instances):
    random = np.random.default_rng(0)
    assert share_won_by_minimax(instances, 0.01, random) > 0.9
    assert share_won_by_minimax(instances, 100.0, random) < 0.1


def test_the_average_risk_pays_for_the_worst(instances):
    assert all(instance.price >= 1 - 1e-6 for instance in instances)
    assert max(instance.price for instance in instances) > 1.1


def test_the_ratio_of_hinges_grows_like_the_number_of_tasks():
    found = [hinge_ratio(num_tasks, 0.01) for num_tasks in TASK_COUNTS]
    assert found == pytest.approx([1 + (num_tasks - 1) * 0.99 for num_tasks in TASK_COUNTS], rel=1e-6)


def test_the_ratio_of_quadratics_grows_like_a_quarter_of_it_where_curvatures_grow():
    found = ratios(TASK_COUNTS)
    assert found.growing == pytest.approx([(1 + math.sqrt(t - 1)) ** 2 / 4 for t in TASK_COUNTS], rel=1e-4)
    assert 0.9 < growth(found.num_tasks, found.growing) < 1.0


@pytest.mark.parametrize("relative_curvature", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("num_tasks", [2, 9, 100])
def test_a_lone_quadratic_against_a_crowd_has_the_ratio_of_the_closed_form(num_tasks, relative_curvature):
    ratio = worst_case_ratio(outvoted(num_tasks, relative_curvature))
    assert ratio == pytest.approx(outvoted_ratio(num_tasks, relative_curvature), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(lone=st.integers(1, 5), crowd=st.integers(1, 400), distance=st.floats(0.1, 10), floor=st.floats(0, 5))
def test_equal_curvatures_stay_below_4_whatever_the_tasks(lone, crowd, distance, floor):
    centres = torch.zeros(lone + crowd, 2, dtype=torch.float64)
    centres[:lone, 0] = distance
    floors = torch.zeros(lone + crowd, dtype=torch.float64)
    floors[lone:] = floor
    assert worst_case_ratio(isotropic(torch.ones_like(floors), centres, floors)) < 4


@pytest.mark.parametrize("relative_curvature", [1.0, 4.0, 9.0])
def test_the_bound_by_the_steepness_is_nearly_reached(relative_curvature):
    tasks = outvoted(1000, relative_curvature)
    bound = steepness_bound(tasks.steepness())
    assert 0.98 * bound < worst_case_ratio(tasks) < bound

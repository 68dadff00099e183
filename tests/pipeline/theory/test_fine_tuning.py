"""Where gradient descent goes from an initialisation, and the samples it needs: 5.3 and 5.4."""

import math

import numpy as np
import pytest

from pipeline.theory.pretraining import DIMENSIONS, NOISY, OUTVOTED, converged_samples
from pipeline.theory.proposition_5_3 import descent, distances, paths, random_risk, steepest_paths
from pipeline.theory.theorem_5_4 import Curve, experiments, moved, sample_bound, squared_error_bound


@pytest.fixture(scope="module")
def needed():
    """Median samples by scenario and initialisation."""
    return {(one.scenario, one.initialisation.name): np.median(one.needed) for one in experiments(seed=7)}


@pytest.mark.parametrize("logistic", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_no_step_goes_away_from_the_optimum_up_to_twice_the_inverse_smoothness(logistic, seed):
    random = np.random.default_rng(seed)
    found = paths(random_risk(random, logistic=logistic), random)
    for size in (0.5, 1.0, 1.9):
        assert (np.diff(found.from_optimum[size]) <= 1e-7).all()
        assert found.from_start[size].max() <= 2


@pytest.mark.parametrize("logistic", [False, True])
def test_the_gradient_is_that_of_the_risk_and_vanishes_at_its_minimiser(logistic):
    risk = random_risk(np.random.default_rng(0), logistic=logistic)
    theta, tiny = np.linspace(-1, 1, 10), 1e-6
    slopes = [(risk.value(theta + tiny * e) - risk.value(theta - tiny * e)) / (2 * tiny) for e in np.eye(10)]
    assert risk.gradient(theta) == pytest.approx(slopes, abs=1e-7)
    assert np.linalg.norm(risk.gradient(risk.minimiser())) < 1e-6


def test_beyond_twice_the_inverse_smoothness_descent_leaves_the_ball():
    assert steepest_paths().from_optimum[2.1][-1] == pytest.approx(1.1**60)


def test_the_ball_around_the_start_needs_twice_the_radius():
    assert steepest_paths().from_start[1.9].max() == pytest.approx(1.9)


def test_mini_batches_leave_the_ball():
    random = np.random.default_rng(0)
    assert paths(random_risk(random, logistic=False), random).stochastic.max() > 1.2


def test_the_closed_form_of_gradient_descent_is_gradient_descent():
    random = np.random.default_rng(0)
    risk = random_risk(random, logistic=False)
    start = random.normal(size=10)
    residuals = (risk.targets - risk.features @ start)[:, None]
    expected = descent(risk, start, 1.0, 30)[-1] - start
    assert moved(risk.features, residuals, 30)[:, 0] == pytest.approx(expected)


def test_converged_descent_leaves_the_share_of_the_excess_risk_that_the_formula_says():
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 10, DIMENSIONS))
    wanted = random.normal(size=(DIMENSIONS, 1))
    missing = wanted - moved(features, features @ wanted, 10**9)
    left = float(np.mean(np.sum(missing**2, axis=1)) / np.sum(wanted**2))
    assert left == pytest.approx(1 - 10 / DIMENSIONS, abs=0.02)
    assert converged_samples(1.0, left) == pytest.approx(10, abs=1)


def test_samples_needed_are_those_after_the_last_failure():
    curve = Curve([0, 4, 8], np.array([[3.0, 0.1, 0.2], [0.1, 3.0, 0.1], [3.0, 3.0, 3.0], [0.1, 0.1, 0.1]]))
    assert curve.samples_needed(1.0).tolist() == [4, 8, math.inf, 0]


def test_an_outvoted_task_needs_fewer_samples_after_minimax(needed):
    minimax, average, random = (needed[OUTVOTED.name, name] for name in ("minimax", "average", "random"))
    assert minimax < 0.6 * average
    assert average < random


def test_with_an_irreducible_loss_minimax_needs_more_samples_than_average_unless_of_the_excess(needed):
    average = needed[NOISY.name, "average"]
    assert needed[NOISY.name, "minimax"] > average > needed[NOISY.name, "minimax of the excess"]


def test_twice_as_many_samples_as_parameters_forget_the_initialisation():
    final = [one.curve.excess[:, -1].mean() for one in experiments(seed=3) if one.scenario == OUTVOTED.name]
    assert max(final) == pytest.approx(min(final), rel=0.05)


def test_the_sample_bound_goes_with_the_square_of_radius_over_excess():
    assert sample_bound(3.0, 0.1) == pytest.approx(9 * sample_bound(1.0, 0.1))
    assert sample_bound(1.0, 0.1) == pytest.approx(4 * sample_bound(1.0, 0.2))
    assert sample_bound(1.0, 2.0, failure=math.exp(-2)) == pytest.approx(9)


@pytest.mark.parametrize("curvature", [1.0, 8.0])
def test_the_bound_of_squared_errors_takes_a_slope_and_a_length_that_nothing_in_the_ball_exceeds(curvature):
    start_excess, random = 0.7, np.random.default_rng(0)
    features = random.normal(size=(20_000, DIMENSIONS))
    features *= np.sqrt(curvature * DIMENSIONS) / np.linalg.norm(features, axis=1, keepdims=True)
    assert features.T @ features / len(features) == pytest.approx(curvature * np.eye(DIMENSIONS), abs=0.4)
    radius = math.sqrt(2 * start_excess / curvature)
    away = 2 * radius * features[0] / np.linalg.norm(features[0])  # θ − θ*, both on the edge of the ball
    slopes, lengths = np.abs(features @ away), np.linalg.norm(features, axis=1)
    expected = sample_bound(radius, 0.1, lipschitz=slopes.max(), feature_norm=lengths.max())
    assert squared_error_bound(start_excess, 0.1) == pytest.approx(expected)


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_so_many_samples_do_leave_so_little_excess_risk(radius):
    """Absolute loss (ρ = 1), ‖x‖ = 1, targets ⟨x, θ*⟩ + noise, and the empirical minimum over the ball."""
    excess, dimensions, random = 0.4, 20, np.random.default_rng(0)
    num_samples = math.ceil(sample_bound(radius, excess))

    def on_the_sphere(count):
        points = random.normal(size=(count, dimensions))
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    best = radius * on_the_sphere(1)[0]
    features, noise = on_the_sphere(num_samples), random.laplace(size=num_samples)
    unseen, unseen_noise = on_the_sphere(20_000), random.laplace(size=20_000)
    theta = np.zeros(dimensions)
    for step in range(400):
        signs = np.sign(features @ theta - features @ best - noise)
        theta = theta - radius / math.sqrt(step + 1) * features.T @ signs / num_samples
        theta = theta * min(1, radius / np.linalg.norm(theta))
    mistake = np.abs(unseen @ (theta - best) - unseen_noise).mean() - np.abs(unseen_noise).mean()
    assert -0.01 < mistake <= excess
    assert distances(theta[None], np.zeros(dimensions), radius)[0] <= 1 + 1e-9

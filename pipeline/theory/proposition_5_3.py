"""Proposition 5.3: gradient descent never leaves the ball around the optimum on which it starts.

For a convex f with L-Lipschitz gradient and any minimiser θ*, ‖θ − η∇f(θ) − θ*‖² ≤ ‖θ − θ*‖² − η(2/L −
η)‖∇f(θ)‖², since ⟨∇f(θ), θ − θ*⟩ ≥ ‖∇f(θ)‖²/L. So distances to θ* never grow if η ≤ 2/L, and ‖θ_k − θ₀‖ ≤
2‖θ₀ − θ*‖. For quadratics and η ≤ 1/L even ‖θ_k − θ₀‖ ≤ ‖θ₀ − θ*‖, because θ_k − θ₀ = (1 − (1 − ηH)^k)(θ* −
θ₀).
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.theory.drawing import BLUE, GREEN, ORANGE, RED, label, new_figure
from pipeline.theory.statement import Statement

STEP_SIZES = [0.5, 1.0, 1.9, 2.1]
"""η L."""
_COLOURS = dict(zip(STEP_SIZES, (GREEN, BLUE, ORANGE, RED), strict=True))
_NUM_SAMPLES, _DIMENSIONS, _NUM_STEPS, _BATCH_SIZE = 200, 10, 60, 4
_RIDGE = 1e-3

Vector = NDArray[np.floating]


@dataclass(frozen=True)
class EmpiricalRisk:
    """The mean loss of a linear model on n samples; convex, with an L-Lipschitz gradient.

    Attributes:
        features: [n, d].
        targets: [n], real numbers or, for the logistic loss, 0 and 1.
        logistic: log-loss with a small ridge penalty, else half the squared error.
    """

    features: Vector
    targets: Vector
    logistic: bool

    @property
    def smoothness(self) -> float:
        """L."""
        largest = float(np.linalg.eigvalsh(self.features.T @ self.features / len(self.targets))[-1])
        return largest / 4 + _RIDGE if self.logistic else largest

    def value(self, theta: Vector) -> float:
        """The mean loss at [d]."""
        scores = self.features @ theta
        if self.logistic:
            return float(
                np.mean(np.logaddexp(0, scores) - self.targets * scores) + _RIDGE / 2 * theta @ theta
            )
        return float(np.mean((scores - self.targets) ** 2) / 2)

    def gradient(self, theta: Vector, rows: NDArray[np.int64] | slice = slice(None)) -> Vector:
        """[d] gradient at [d], or its estimate from some of the samples."""
        features, targets = self.features[rows], self.targets[rows]
        scores = features @ theta
        residuals = (expit(scores) if self.logistic else scores) - targets
        return features.T @ residuals / len(targets) + (_RIDGE * theta if self.logistic else 0)

    def minimiser(self) -> Vector:
        """[d] θ*."""
        if not self.logistic:
            return np.linalg.lstsq(self.features, self.targets, rcond=None)[0]
        start = np.zeros(self.features.shape[1])
        return minimize(self.value, start, jac=self.gradient, method="BFGS", options={"gtol": 1e-10}).x


def random_risk(random: np.random.Generator, *, logistic: bool) -> EmpiricalRisk:
    """Features whose spread falls from 1 to 0.1 over the coordinates; noisy targets."""
    features = random.normal(size=(_NUM_SAMPLES, _DIMENSIONS)) * np.geomspace(1, 0.1, _DIMENSIONS)
    scores = features @ (3 * random.normal(size=_DIMENSIONS)) + random.normal(size=_NUM_SAMPLES)
    return EmpiricalRisk(features, (scores > 0).astype(float) if logistic else scores, logistic)


def descent(
    risk: EmpiricalRisk,
    start: Vector,
    step_size: float,
    num_steps: int,
    batches: list[NDArray[np.int64]] | None = None,
) -> Vector:
    """[K + 1, d] iterates of descent with η = `step_size` / L; with batches, of stochastic descent."""
    rate = step_size / risk.smoothness
    points = [start]
    for step in range(num_steps):
        rows = batches[step] if batches else slice(None)
        points.append(points[-1] - rate * risk.gradient(points[-1], rows))
    return np.stack(points)


def distances(points: Vector, centre: Vector, radius: float) -> Vector:
    """[K + 1] distances of iterates from a centre, in units of R."""
    return np.linalg.norm(points - centre, axis=1) / radius


@dataclass(frozen=True)
class Paths:
    """Distances in units of R = ‖θ₀ − θ*‖, step by step.

    Attributes:
        from_optimum, from_start: by η L, [K + 1] each.
        stochastic: [K + 1] from the optimum, one pass with small batches, η L = 1.
    """

    from_optimum: dict[float, Vector]
    from_start: dict[float, Vector]
    stochastic: Vector


def paths(risk: EmpiricalRisk, random: np.random.Generator) -> Paths:
    """Descents from a random start at the distance R = 1."""
    optimum = risk.minimiser()
    direction = random.normal(size=len(optimum))
    start = optimum + direction / np.linalg.norm(direction)
    runs = {size: descent(risk, start, size, _NUM_STEPS) for size in STEP_SIZES}
    batches = [random.integers(len(risk.targets), size=_BATCH_SIZE) for _ in range(_NUM_STEPS)]
    noisy = descent(risk, start, 1.0, _NUM_STEPS, batches)
    return Paths(
        from_optimum={size: distances(points, optimum, 1.0) for size, points in runs.items()},
        from_start={size: distances(points, start, 1.0) for size, points in runs.items()},
        stochastic=distances(noisy, optimum, 1.0),
    )


def steepest_paths() -> Paths:
    """The worst case: a parabola, where each step goes along the steepest direction."""
    risk = EmpiricalRisk(np.ones((1, 1)), np.zeros(1), logistic=False)
    runs = {size: descent(risk, np.ones(1), size, _NUM_STEPS) for size in STEP_SIZES}
    return Paths(
        from_optimum={size: distances(points, np.zeros(1), 1.0) for size, points in runs.items()},
        from_start={size: distances(points, np.ones(1), 1.0) for size, points in runs.items()},
        stochastic=np.full(_NUM_STEPS + 1, np.nan),
    )


def examine(seed: int) -> Statement:
    """Least squares, logistic regression, and the parabola, with η L from 0.5 to 2.1."""
    random = np.random.default_rng(seed)
    found = {
        "least squares": paths(random_risk(random, logistic=False), random),
        "logistic": paths(random_risk(random, logistic=True), random),
        "parabola": steepest_paths(),
    }
    allowed = [size for size in STEP_SIZES if size <= 2]
    squares, parabola = found["least squares"], found["parabola"]
    figure = _draw(found)
    return Statement(
        name="proposition-5.3",
        findings=[
            "Up to η = 1.9/L no step leads away from θ*, on least squares, logistic regression, a parabola.",
            f"With η = 2.1/L the parabola's iterate is {parabola.from_optimum[2.1][-1]:.0f} R away after "
            f"{_NUM_STEPS} steps.",
            f"From θ₀ the iterates go as far as {parabola.from_start[1.9].max():.2f} R with η = 1.9/L: a "
            "bound with a ball around the initialisation needs the radius 2R, or η ≤ 1/L on a quadratic "
            f"({squares.from_start[1.0].max():.2f} R on least squares).",
            f"With batches of {_BATCH_SIZE} of {_NUM_SAMPLES} samples and η = 1/L least squares gets as far "
            f"as {squares.stochastic.max():.2f} R from θ*: fine-tuning as it is done does leave the ball.",
        ],
        checks={
            "with η up to 1.9/L no step goes away from θ*": all(
                (np.diff(one.from_optimum[size]) <= 1e-9).all() for one in found.values() for size in allowed
            ),
            "no iterate is further than 2R from θ₀": all(
                one.from_start[size].max() <= 2 + 1e-9 for one in found.values() for size in allowed
            ),
            "on quadratics with η ≤ 1/L none is further than R": all(
                one.from_start[size].max() <= 1 + 1e-9 for one in (squares, parabola) for size in (0.5, 1.0)
            ),
            "with η = 2.1/L the parabola leaves the ball": bool(parabola.from_optimum[2.1].max() > 1),
        },
        numbers={name: _plain(one) for name, one in found.items()},
        figure=figure,
    )


def _plain(one: Paths) -> dict[str, object]:
    return {
        "from_optimum": {str(size): values.tolist() for size, values in one.from_optimum.items()},
        "from_start": {str(size): values.tolist() for size, values in one.from_start.items()},
        "stochastic_from_optimum": None if np.isnan(one.stochastic).any() else one.stochastic.tolist(),
    }


def _draw(found: dict[str, Paths]) -> Figure:
    figure, axes = new_figure(2, 3, 5.2)
    for column, (name, one) in zip(axes.T, found.items(), strict=True):
        _draw_distances(column[0], one.from_optimum, f"{name}: from θ*")
        if not np.isnan(one.stochastic).any():
            column[0].plot(
                one.stochastic, color="black", linewidth=0.9, label=f"batches of {_BATCH_SIZE}, η = 1/L"
            )
        _draw_distances(column[1], one.from_start, f"{name}: from θ₀")
        column[1].set_xlabel("step k")
    for axis in axes[:, 0]:
        axis.set_ylabel("distance ÷ R")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def _draw_distances(axes: Axes, by_size: dict[float, Vector], title: str) -> None:
    for size, values in by_size.items():
        axes.plot(values, color=_COLOURS[size], label=f"η = {size}/L")
    axes.axhline(1, color="black", linewidth=0.9, linestyle=":")
    axes.set_ylim(0, 2.3)
    label(axes, title)

"""Theorem 5.4: fewer samples are needed when fine-tuning starts from the minimax optimum.

Let the loss be ρ-Lipschitz in the prediction ⟨x, θ⟩, ‖x‖ ≤ X, and fine-tuning minimise the empirical risk
of n samples over the ball of radius R around θ₀, which holds the best θ*. For the class of ℓ_θ − ℓ_θ* the
Rademacher complexity is at most ρXR/√n, and one sample moves the supremum of E − E_n by at most 4ρXR/n. By
symmetrisation and McDiarmid's inequality, with probability 1 − δ the excess risk is at most (2ρXR/√n)(1 +
√(2 log 1/δ)). It is below ε for

    n ≥ (2ρXR/ε)² (1 + √(2 log 1/δ))².

A μ-strongly convex task has R² ≤ 2(L_t(θ₀) − min L_t)/μ: the samples grow like the *excess* risk of the
initialisation, and the most demanding task is the one with the largest of these, not the one with the
largest risk. That is so at one ρ; that of a squared error grows with R (see `squared_error_bound`).

The experiment is least squares with Gaussian features in d dimensions and gradient descent without
projection. As the number of steps grows and n < d, it ends at θ₀ + X⁺(y − Xθ₀), whose expected excess risk
without label noise is exactly (1 − n/d) times that of θ₀. For n ≥ d it ends at the least-squares solution,
and where it began is forgotten.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.theory.drawing import BLUE, GREEN, GREY, ORANGE, label, new_figure
from pipeline.theory.pretraining import (
    DIMENSIONS,
    NOISY,
    OUTVOTED,
    SCENARIOS,
    Initialisation,
    Scenario,
    converged_samples,
)
from pipeline.theory.statement import Statement

_NUM_SEEDS = 50
_NUM_STEPS = 300
_LABEL_NOISE = 0.05
_EXCESS = 0.2
"""ε."""
_COLOURS = {"minimax": BLUE, "average": ORANGE, "minimax of the excess": GREEN, "random": GREY}

_NOTE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 8}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Excess risk of the worst downstream task after fine-tuning from one initialisation.

    Attributes:
        num_samples: [N].
        excess: [seeds, N].
    """

    num_samples: list[int]
    excess: Array

    def samples_needed(self, excess: float) -> Array:
        """[seeds] the smallest n from which on the excess risk stays at or below `excess`; else inf."""
        counts = np.array([*self.num_samples, math.inf])
        place_after_a_failure = np.arange(1, len(counts)) * (self.excess > excess)
        return counts[place_after_a_failure.max(axis=1)]


def sample_bound(
    radius: float, excess: float, *, lipschitz: float = 1.0, feature_norm: float = 1.0, failure: float = 0.05
) -> float:
    """Number of samples that suffices for an excess risk of `excess` = ε with probability 1 − `failure`.

    (2ρXR/ε)² (1 + √(2 log 1/δ))², with R = `radius` of the ball that fine-tuning searches.
    """
    scale = 2 * lipschitz * feature_norm * radius / excess
    return (scale * (1 + math.sqrt(2 * math.log(1 / failure)))) ** 2


def squared_error_bound(start_excess: float, excess: float) -> float:
    """`sample_bound` of half the squared error without label noise, from an excess risk E₀ = `start_excess`.

    Features of covariance hI are not all shorter than √(hd), so X is that at best, and R² = 2E₀/h. In the
    ball predictions are off by up to 2XR, which is the loss's slope ρ. (2ρXR/ε)² is (8dE₀/ε)², whatever h is.
    """
    radius, feature_norm = math.sqrt(2 * start_excess), math.sqrt(DIMENSIONS)
    return sample_bound(radius, excess, lipschitz=2 * feature_norm * radius, feature_norm=feature_norm)


def moved(features: Array, residuals: Array, num_steps: int) -> Array:
    """How far so many steps of gradient descent on half the mean squared error go, η = 1/L, in closed form.

    Args:
        features: [..., n, d] X.
        residuals: [..., n, M] y − Xθ₀ of M fits to the same features.
        num_steps: K.

    Returns:
        [..., d, M] θ_K − θ₀ = V diag((1 − (1 − s²/s₁²)^K)/s) Uᵀ (y − Xθ₀), with X = U diag(s) Vᵀ.
    """
    left, scales, right = np.linalg.svd(features, full_matrices=False)
    reached = 1 - (1 - (scales / scales[..., :1]) ** 2) ** num_steps
    return right.mT @ ((reached / scales)[..., None] * (left.mT @ residuals))


def fine_tuning_curves(
    scenario: Scenario, starts: list[Initialisation], num_samples: list[int], seed: int
) -> list[Curve]:
    """Fine-tunes every downstream task from every start, all on the same samples."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(_NUM_SEEDS, max(num_samples), DIMENSIONS))
    noise = _LABEL_NOISE * random.normal(size=(_NUM_SEEDS, max(num_samples), 1))
    pairs = [(start.theta, *task) for start in starts for task in scenario.downstream()]
    wanted = np.stack([centre - theta for theta, _, centre in pairs], axis=1)
    curvatures = np.array([curvature for _, curvature, _ in pairs])
    columns = []
    for count in num_samples:
        # A risk of ½h‖θ − c‖² has √h times normal features: their fit is that to normal ones with noise/√h.
        residuals = features[:, :count] @ wanted + noise[:, :count] / np.sqrt(curvatures)
        missing = wanted - (
            moved(features[:, :count], residuals, _NUM_STEPS) if count else np.zeros((_NUM_SEEDS, 1, 1))
        )
        risks = curvatures / 2 * np.sum(missing**2, axis=1)
        columns.append(risks.reshape(_NUM_SEEDS, len(starts), -1).max(axis=2))
    excess = np.stack(columns, axis=2)
    return [Curve(num_samples, excess[:, place]) for place in range(len(starts))]


@dataclass(frozen=True)
class Found:
    """What fine-tuning from one initialisation needed."""

    scenario: str
    initialisation: Initialisation
    curve: Curve

    @property
    def needed(self) -> Array:
        """[seeds] samples until the worst downstream task's excess risk is at most ε."""
        return self.curve.samples_needed(_EXCESS)

    @property
    def predicted(self) -> float:
        """Samples that converged descent without noise needs on average."""
        return converged_samples(self.initialisation.excess, _EXCESS)

    @property
    def bound(self) -> float:
        """The theorem's samples for half the squared error, were the features as short as theirs can be."""
        return squared_error_bound(self.initialisation.excess, _EXCESS)


def experiments(seed: int) -> list[Found]:
    """Every initialisation of every scenario."""
    num_samples = [*range(0, DIMENSIONS, 2), *range(DIMENSIONS, 2 * DIMENSIONS + 1, 8)]
    found = []
    for scenario in SCENARIOS:
        starts = scenario.initialisations(seed)
        curves = fine_tuning_curves(scenario, starts, num_samples, seed)
        found += [Found(scenario.name, start, curve) for start, curve in zip(starts, curves, strict=True)]
    return found


def examine(seed: int) -> Statement:
    """Samples needed from minimax, average and random initialisations, in both scenarios."""
    found = experiments(seed)
    by_name = {(one.scenario, one.initialisation.name): one for one in found}
    outvoted = {name: by_name[OUTVOTED.name, name] for name in _COLOURS}
    noisy = {name: by_name[NOISY.name, name] for name in _COLOURS}
    last = outvoted["minimax"].curve.num_samples[-1]
    final = [float(one.curve.excess[:, -1].mean()) for one in outvoted.values()]
    figure = _draw(found)
    return Statement(
        name="theorem-5.4",
        findings=[
            f"An outvoted task, ε = {_EXCESS}, d = {DIMENSIONS}, {_NUM_SEEDS} seeds, samples for the worst "
            f"of all downstream tasks (median, 5 to 95 %): {_each(outvoted)}.",
            f"The same where one upstream task has an irreducible loss: {_each(noisy)}.",
            f"Without noise and with many steps it is d(1 − ε/E₀): {_predictions(outvoted)} in the first "
            "case.",
            "The bound puts them in the same order, and is no guide to their number. For squared losses ρ "
            "grows with R, and X² is d or more: even with features no longer than that it asks for "
            f"{_bounds(outvoted)}, in proportion to E₀². Normal features, as here, have no X at all.",
            f"With n = {last}, twice the dimensions, the excess risks are {min(final):.4f} to "
            f"{max(final):.4f}: who has more samples than parameters, and trains to the end, does not need "
            "a good initialisation.",
        ],
        checks={
            "outvoted task: minimax needs the fewest samples, random the most": _median(outvoted["minimax"])
            < _median(outvoted["average"])
            < _median(outvoted["random"]),
            "irreducible loss: minimax needs more samples than average": _median(noisy["minimax"])
            > _median(noisy["average"]),
            "irreducible loss: minimax of the excess needs the fewest": _median(
                noisy["minimax of the excess"]
            )
            < _median(noisy["average"]),
        },
        numbers={"excess": _EXCESS, "dimensions": DIMENSIONS, "runs": [_plain(one) for one in found]},
        figure=figure,
    )


def _median(one: Found) -> float:
    return float(np.median(one.needed))


def _each(starts: dict[str, Found]) -> str:
    texts = []
    for name, one in starts.items():
        low, middle, high = np.quantile(one.needed, [0.05, 0.5, 0.95], method="nearest")
        texts.append(f"{name} {middle:.0f} ({low:.0f} to {high:.0f})")
    return ", ".join(texts)


def _predictions(starts: dict[str, Found]) -> str:
    return ", ".join(f"{name} {one.predicted:.0f}" for name, one in starts.items())


def _bounds(starts: dict[str, Found]) -> str:
    return ", ".join(f"{one.bound / 1e6:,.0f} million ({name})" for name, one in starts.items())


def _plain(one: Found) -> dict[str, object]:
    return {
        "scenario": one.scenario,
        "initialisation": one.initialisation.name,
        "initial_excess": one.initialisation.excess,
        "samples_needed": [None if math.isinf(count) else int(count) for count in one.needed],
        "samples_predicted": one.predicted,
        "samples_bound": one.bound,
        "num_samples": one.curve.num_samples,
        "mean_excess": one.curve.excess.mean(axis=0).tolist(),
    }


def _draw(found: list[Found]) -> Figure:
    figure, axes = new_figure(1, 3, 3.9)
    for axis, scenario in zip(axes[0], SCENARIOS, strict=False):
        for one in found:
            if one.scenario == scenario.name:
                _draw_curve(axis, one)
        axis.axhline(_EXCESS, color="black", linewidth=0.9, linestyle=":")
        axis.axvline(DIMENSIONS, color="black", linewidth=0.6, linestyle=":")
        axis.set_yscale("log")
        axis.set_ylim(1e-4, 40)
        label(
            axis,
            scenario.name,
            "samples n (dotted: d)",
            "excess risk of the worst task" if axis is axes[0, 0] else "",
        )
    _draw_needed(axes[0, 2], found)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_curve(axes: Axes, one: Found) -> None:
    colour, counts = _COLOURS[one.initialisation.name], one.curve.num_samples
    low, high = np.quantile(one.curve.excess, [0.05, 0.95], axis=0)
    axes.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
    # Dashes let `minimax` be seen below: where nothing is irreducible the two are the same.
    style = (0, (3, 2)) if one.initialisation.name == "minimax of the excess" else "-"
    mean = one.curve.excess.mean(axis=0)
    axes.plot(counts, mean, color=colour, linestyle=style, label=one.initialisation.name)


def _draw_needed(axes: Axes, found: list[Found]) -> None:
    grid = np.geomspace(1.05 * _EXCESS, 1.2 * max(one.initialisation.excess for one in found), 100)
    axes.plot(grid, [converged_samples(value, _EXCESS) for value in grid], color="black", linewidth=0.9)
    for one in found:
        low, middle, high = np.quantile(one.needed, [0.05, 0.5, 0.95], method="nearest")
        # A ring lets `minimax` be seen within: where nothing is irreducible the two are the same.
        is_ring = one.initialisation.name == "minimax of the excess"
        axes.errorbar(
            one.initialisation.excess,
            middle,
            yerr=[[middle - low], [high - middle]],
            color=_COLOURS[one.initialisation.name],
            marker="o" if one.scenario == OUTVOTED.name else "s",
            markersize=10 if is_ring else 5,
            markerfacecolor="none" if is_ring else None,
            markeredgewidth=1.5,
            elinewidth=1.2,
            capsize=4 if is_ring else 2,
        )
    axes.set_xscale("log")
    axes.set_ylim(0, 1.5 * DIMENSIONS)
    axes.annotate("d(1 − ε/E₀)", (grid[75], DIMENSIONS), xytext=(0, -14), **_NOTE)
    label(axes, "samples until ε", "excess risk E₀ of the initialisation")

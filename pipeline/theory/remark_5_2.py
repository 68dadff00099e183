"""Remark 5.2: average pre-training can be T times worse on the worst task than minimax.

The example is a lone task against a crowd of T − 1 equal ones that pull the other way; it must be so much
steeper than they are that its loss at the crowd's optimum weighs as much as all of theirs.

Hinges: max(0, 1 + sθ) once and max(0, 1 − θ) for the others, with s = (T − 1)(1 − ε). The crowd just
outvotes the lone task, so θ_avg = 1, where its loss is 1 + s; θ_mm = 0, where all losses are 1. The ratio
is 1 + (T − 1)(1 − ε): T in the limit.

Quadratics: ½rθ² against T − 1 times ½(θ − 1)². The ratio is ((T − 1)/(T − 1 + r))² (1 + √r)² up to r = (T −
1)². It stays below 4 for r = 1, and is ¼(1 + √(T − 1))², about T/4, for r = T − 1.

That quadratics need unequal curvatures is general. Let V be the minimax value, z its optimum, H̄ = mean
H_t, and κ the largest eigenvalue of any H̄⁻¹H_t. Then ‖z − c_t‖² ≤ 2(V − f_t) in the norm of H_t, hence
‖θ_avg − z‖² ≤ 2V in that of H̄ (its square is at most the mean of those) and ≤ 2κV in that of H_t. By the
triangle inequality L_t(θ_avg) ≤ f_t + (√(V − f_t) + √(κV))² ≤ (1 + √κ)² V. Equal curvatures have κ = 1, so
a ratio of at most 4.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import linprog

from pipeline.theory.drawing import BLUE, GREEN, ORANGE, PURPLE, label, limit_line, new_figure
from pipeline.theory.quadratics import Quadratics, isotropic, steepness_bound, worst_case_ratio
from pipeline.theory.statement import Statement, log_log_slope

TASK_COUNTS = [2, 3, 5, 9, 20, 50, 100, 200, 500, 1000]
_MARGIN = 0.01
"""ε: by how much the crowd outvotes the lone task."""
_RELATIVE_CURVATURES = [float(value) for value in np.geomspace(1, 1e4, 17)]
_TASK_COUNTS_OF_CURVATURES = (9, 100, 1000)


@dataclass(frozen=True)
class Ratios:
    """max-risk(average) ÷ max-risk(minimax) for each T, solved numerically."""

    num_tasks: list[int]
    hinges: list[float]
    growing: list[float]
    equal: list[float]


def outvoted(num_tasks: int, relative_curvature: float) -> Quadratics:
    """½rθ² against T − 1 times ½(θ − 1)²."""
    curvatures = torch.ones(num_tasks, dtype=torch.float64)
    curvatures[0] = relative_curvature
    centres = torch.ones(num_tasks, 1, dtype=torch.float64)
    centres[0] = 0
    return isotropic(curvatures, centres)


def outvoted_ratio(num_tasks: int, relative_curvature: float) -> float:
    """The ratio of `outvoted` in closed form; beyond r = (T − 1)² it is the crowd that is worse off."""
    crowd, root = num_tasks - 1, math.sqrt(relative_curvature)
    return (max(crowd, root) / (crowd + relative_curvature) * (1 + root)) ** 2


def hinge_ratio(num_tasks: int, margin: float) -> float:
    """The ratio of the hinges, from two linear programs: no closed form is used."""
    slopes = np.full(num_tasks, -1.0)
    slopes[0] = (num_tasks - 1) * (1 - margin)
    average = _hinges_at(slopes, _lowest_average(slopes)).max()
    return float(average / _lowest_worst(slopes))


def _hinges_at(slopes: NDArray[np.float64], theta: float) -> NDArray[np.float64]:
    return np.maximum(0, 1 + slopes * theta)


def _lowest_average(slopes: NDArray[np.float64]) -> float:
    """θ with the lowest Σ u_t, u_t ≥ 1 + s_t θ, u_t ≥ 0."""
    num_tasks = len(slopes)
    solution = linprog(
        c=[0, *[1] * num_tasks],
        A_ub=np.column_stack([slopes, -np.eye(num_tasks)]),
        b_ub=-np.ones(num_tasks),
        bounds=[(None, None), *[(0, None)] * num_tasks],
    )
    return float(solution.x[0])


def _lowest_worst(slopes: NDArray[np.float64]) -> float:
    """The lowest v with v ≥ 1 + s_t θ, v ≥ 0."""
    constraints = np.column_stack([slopes, -np.ones(len(slopes))])
    solution = linprog(
        c=[0, 1], A_ub=constraints, b_ub=-np.ones(len(slopes)), bounds=[(None, None), (0, None)]
    )
    return float(solution.fun)


def ratios(task_counts: list[int]) -> Ratios:
    """Of the three examples: hinges, quadratics with r = T − 1, quadratics with r = 1."""
    return Ratios(
        num_tasks=task_counts,
        hinges=[hinge_ratio(num_tasks, _MARGIN) for num_tasks in task_counts],
        growing=[worst_case_ratio(outvoted(num_tasks, num_tasks - 1)) for num_tasks in task_counts],
        equal=[worst_case_ratio(outvoted(num_tasks, 1)) for num_tasks in task_counts],
    )


def growth(num_tasks: list[int], values: list[float]) -> float:
    """Fitted d log ratio / d log T, from T = 50 on."""
    many = [place for place, count in enumerate(num_tasks) if count >= 50]
    return log_log_slope([num_tasks[place] for place in many], [values[place] for place in many])


def examine() -> Statement:
    """The ratio for T = 2 … 1000 and for curvatures r = 1 … 10,000."""
    found = ratios(TASK_COUNTS)
    by_curvature = {
        num_tasks: [worst_case_ratio(outvoted(num_tasks, r)) for r in _RELATIVE_CURVATURES]
        for num_tasks in _TASK_COUNTS_OF_CURVATURES
    }
    last = found.num_tasks[-1]
    figure = _draw(found, by_curvature)
    return Statement(
        name="remark-5.2",
        findings=[
            f"Hinges: the ratio is {found.hinges[-1]:.0f} at T = {last} and grows like "
            f"T^{growth(found.num_tasks, found.hinges):.2f}. Their slopes are T − 1 to 1.",
            f"Quadratics with a curvature of T − 1 to 1: {found.growing[-1]:.0f} at T = {last}, near T/4, "
            f"growing like T^{growth(found.num_tasks, found.growing):.2f}.",
            f"Quadratics of equal curvature: at most {max(found.equal):.3f}.",
            "In practice: with nine parts of speech the worst task can be at most 9 times worse off with "
            "average pre-training, and more than 4 times only if its loss rises much more steeply than the "
            "others' around the optimum (quadratic picture). Irreducible losses, which entropies have, "
            "pull the ratio to 1: the ratio speaks of L_t, of which only L_t − f_t can be gained.",
        ],
        checks={
            "no ratio exceeds T": all(
                value <= num_tasks * (1 + 1e-9)
                for values in (found.hinges, found.growing, found.equal)
                for num_tasks, value in zip(found.num_tasks, values, strict=True)
            ),
            "the ratio of the hinges is at least 0.98 T": all(
                value >= 0.98 * num_tasks
                for num_tasks, value in zip(found.num_tasks, found.hinges, strict=True)
            ),
            "equal curvatures stay below 4": max(found.equal) < 4,
            "quadratics agree with the closed form to 0.01 %": all(
                math.isclose(value, outvoted_ratio(num_tasks, r), rel_tol=1e-4)
                for num_tasks, values in by_curvature.items()
                for r, value in zip(_RELATIVE_CURVATURES, values, strict=True)
            ),
        },
        numbers={
            "num_tasks": found.num_tasks,
            "ratio": {
                "hinges": found.hinges,
                "curvature_T_minus_1": found.growing,
                "equal_curvature": found.equal,
            },
            "relative_curvatures": _RELATIVE_CURVATURES,
            "ratio_by_curvature": {str(num_tasks): values for num_tasks, values in by_curvature.items()},
        },
        figure=figure,
    )


def _draw(found: Ratios, by_curvature: dict[int, list[float]]) -> Figure:
    figure, axes = new_figure(1, 2, 3.9)
    left = axes[0, 0]
    limit_line(left, found.num_tasks, found.num_tasks, "bound T")
    left.loglog(
        found.num_tasks, found.hinges, "o-", markersize=4, color=BLUE, label="hinges, slopes T − 1 : 1"
    )
    left.loglog(
        found.num_tasks, found.growing, "o-", markersize=4, color=ORANGE, label="curvatures T − 1 : 1"
    )
    left.loglog(found.num_tasks, found.equal, "o-", markersize=4, color=GREEN, label="equal curvatures")
    left.axhline(4, color=GREEN, linewidth=0.9, linestyle=":")
    left.annotate("4", (1.3, 4), xytext=(0, 3), textcoords="offset points", color=GREEN, fontsize=9)
    left.set_xlim(1.2, 1500)
    left.legend(frameon=False)
    label(left, "Worst risk, average ÷ minimax", "number of tasks T")
    _draw_curvatures(axes[0, 1], by_curvature)
    return figure


def _draw_curvatures(axes: Axes, by_curvature: dict[int, list[float]]) -> None:
    limit_line(axes, _RELATIVE_CURVATURES, [steepness_bound(r) for r in _RELATIVE_CURVATURES], "(1 + √r)²")
    for colour, (num_tasks, values) in zip((PURPLE, BLUE, ORANGE), by_curvature.items(), strict=True):
        axes.loglog(_RELATIVE_CURVATURES, values, "o-", markersize=4, color=colour, label=f"T = {num_tasks}")
        axes.axvline(num_tasks - 1, color=colour, linewidth=0.8, linestyle=":")
    axes.set_ylim(0.5, 3_000)
    axes.legend(frameon=False)
    label(axes, "Quadratics; dotted: r = T − 1", "curvature r of the lone task ÷ the others'")

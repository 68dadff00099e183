"""Theorem 3.1: softmax-weighted gradient descent reaches the minimax optimum at the rate 1/√K.

Proof, with the constants. Let δ_k = max_t L_t(θ_k) − Σ_t w_t L_t(θ_k). Tasks further than ε =
R₀L′/(4√(k+1)) below the worst have weights of at most exp(−α_k ε), so δ_k ≤ ε + TB exp(−α_k ε) ≤
R₀L′/(2√(k+1)) for the theorem's α_k. With g_k = Σ_t w_t ∇L_t(θ_k) and convexity, max_t L_t(θ_k) − max_t
L_t(θ*) ≤ δ_k + ⟨g_k, θ_k − θ*⟩. Over K steps of η = R₀/(L′√K) the second terms have a mean of at most
R₀L′/√K, as in subgradient descent, and so have the first, since Σ_{k<K} 1/√(k+1) ≤ 2√K.

Two things follow that the theorem does not say. Summing ‖θ_{k+1} − θ*‖² ≤ ‖θ_k − θ*‖² + 2ηδ_k + η²L′² gives
‖θ_k − θ*‖ ≤ 2R₀, so B is needed on that ball only. And by the entropy of w, δ_k ≤ log T/α_k, so that α_k =
2√(k+1) log T/(R₀L′) suffices: neither B nor a logarithm of k is needed.
"""

import math
from dataclasses import dataclass

from matplotlib.figure import Figure

from pipeline.theory.convex_tasks import PROBLEMS, ConvexTasks
from pipeline.theory.descent import Outcome, Rule, Run, descend
from pipeline.theory.drawing import BLUE, GREEN, GREY, ORANGE, RED, label, limit_line, new_figure
from pipeline.theory.statement import Statement, log_log_slope

_ALPHA_OF_THE_MAX = 1e18
"""So large that in fp64 the worst task alone has weight: subgradient descent on max_t L_t."""

THEOREM, WITHOUT_LOG, CONSTANT, SUBGRADIENT, DECAYING = (
    "α of the theorem",
    "α without the log k",
    "α = 1",
    "subgradient descent",
    "α of the theorem, decaying steps",
)
_PROVEN = (THEOREM, WITHOUT_LOG, SUBGRADIENT)
_COLOURS = {THEOREM: BLUE, WITHOUT_LOG: GREEN, CONSTANT: RED, SUBGRADIENT: GREY, DECAYING: ORANGE}
_FIRST_FITTED = 100


@dataclass(frozen=True)
class Curve:
    """A rule on a problem: the gap of the averaged iterate after each number of steps."""

    problem: str
    tasks: ConvexTasks
    rule: str
    num_steps: list[int]
    gaps: list[float]
    farthest: float

    def over_bound(self) -> list[float]:
        """Gap ÷ (2R₀L′/√K); at most 1 where the theorem holds."""
        bounds = [rate_bound(self.tasks, steps) for steps in self.num_steps]
        return [gap / bound for gap, bound in zip(self.gaps, bounds, strict=True)]

    def slope(self) -> float:
        """Fitted d log gap / d log K, from K = 100 on; NaN where fewer than two points are left."""
        late = [place for place, steps in enumerate(self.num_steps) if steps >= _FIRST_FITTED]
        return log_log_slope([self.num_steps[place] for place in late], [self.gaps[place] for place in late])


def rate_bound(tasks: ConvexTasks, num_steps: int) -> float:
    """2R₀L′/√K."""
    return 2 * tasks.radius * tasks.lipschitz / math.sqrt(num_steps)


def theorem_rule(tasks: ConvexTasks, *, decaying: bool = False) -> Rule:
    """α_k = 4√(k+1)/(R₀L′) · log(4TB√(k+1)/(R₀L′))."""
    unit = 4 / (tasks.radius * tasks.lipschitz)
    return Rule(
        per_root=unit * math.log(unit * tasks.num_tasks * tasks.bound), per_root_log=unit, decaying=decaying
    )


def rules_of(tasks: ConvexTasks) -> dict[str, Rule]:
    """The rules that are compared."""
    unit = 1 / (tasks.radius * tasks.lipschitz)
    return {
        THEOREM: theorem_rule(tasks),
        WITHOUT_LOG: Rule(per_root=2 * unit * math.log(tasks.num_tasks)),
        CONSTANT: Rule(constant=1.0),
        SUBGRADIENT: Rule(constant=_ALPHA_OF_THE_MAX),
        DECAYING: theorem_rule(tasks, decaying=True),
    }


def plateau(num_tasks: int, alpha: float) -> float:
    """Gap of `crowd` at which a constant α ends: min(1, log(T − 1)/2α)."""
    return min(1.0, math.log(num_tasks - 1) / (2 * alpha))


def step_counts(max_steps: int) -> list[int]:
    """K = 10, 32, 100, … up to `max_steps`, two per decade."""
    counts = [round(10 ** (half / 2)) for half in range(2, 2 * len(str(max_steps)) + 1)]
    return [count for count in counts if count <= max_steps]


def curves(num_steps: list[int], task_counts: list[int]) -> list[Curve]:
    """Every rule on every problem, with every T and K."""
    cases = [
        (problem, tasks, name, rule)
        for problem, build in PROBLEMS.items()
        for tasks in map(build, task_counts)
        for name, rule in rules_of(tasks).items()
    ]
    outcomes = iter(descend([Run(tasks, rule, count) for _, tasks, _, rule in cases for count in num_steps]))
    return [
        _curve(problem, tasks, name, num_steps, [next(outcomes) for _ in num_steps])
        for problem, tasks, name, _ in cases
    ]


def _curve(
    problem: str, tasks: ConvexTasks, rule: str, num_steps: list[int], outcomes: list[Outcome]
) -> Curve:
    gaps = [tasks.gap(outcome.average) for outcome in outcomes]
    return Curve(problem, tasks, rule, num_steps, gaps, max(outcome.farthest for outcome in outcomes))


def examine(max_steps: int, task_counts: list[int]) -> Statement:
    """Gaps for K = 10 … `max_steps` and every T, against the bound."""
    found = curves(step_counts(max_steps), task_counts)
    proven = [curve for curve in found if curve.rule in _PROVEN]
    theorem = [curve for curve in found if curve.rule == THEOREM]
    constant = {curve.tasks.num_tasks: curve for curve in found if _is_crowd(curve)}
    most_tasks = max(task_counts)
    largest = {
        rule: max(max(curve.over_bound()) for curve in found if curve.rule == rule) for rule in _COLOURS
    }
    slopes = [curve.slope() for curve in theorem]
    figure = _draw(found, task_counts)
    last_step = step_counts(max_steps)[-1]
    return Statement(
        name="theorem-3.1",
        findings=[
            f"The largest gap ÷ bound is {largest[THEOREM]:.2f} with the theorem's α, "
            f"{largest[SUBGRADIENT]:.2f} for subgradient descent; the smallest with the theorem's α is "
            f"{min(min(curve.over_bound()) for curve in theorem):.2f}. So the bound is right, and of the "
            "right order.",
            f"Fitted slopes d log gap / d log K with the theorem's α: {min(slopes):.2f} to "
            f"{max(slopes):.2f}.",
            f"With α = 1 the gap exceeds the bound up to {largest[CONSTANT]:.0f} times. On `crowd` with T = "
            f"{most_tasks} it ends at {constant[most_tasks].gaps[-1]:.3f}, where min(1, log(T − 1)/2α) is "
            f"{plateau(most_tasks, 1.0):.3f}: T − 1 easy tasks outvote one. α has the unit of 1/loss, so α "
            "= 1 means nothing by itself.",
            f"The theorem's α is {min(rules_of(c.tasks)[THEOREM].alpha(0) for c in theorem):.0f} to "
            f"{max(rules_of(c.tasks)[THEOREM].alpha(0) for c in theorem):.0f} at the first step and up to "
            f"{max(rules_of(c.tasks)[THEOREM].alpha(last_step - 1) for c in theorem):,.0f} at the last: "
            "nearly the hard maximum all along. α_k = 2√(k+1) log T/(R₀L′), without B and the logarithm of "
            f"k, is enough (largest gap ÷ bound {largest[WITHOUT_LOG]:.2f}).",
            f"Steps that decay as R₀/(L′√(k+1)) stay below the bound too (up to {largest[DECAYING]:.2f}), "
            "though the proof does not say so.",
        ],
        checks={
            "the gap is below 2R₀L′/√K wherever that is proven": max(largest[rule] for rule in _PROVEN) <= 1,
            "no iterate is further from θ* than 2R₀": all(
                curve.farthest <= 2 * curve.tasks.radius for curve in proven
            ),
        },
        numbers={"curves": [_plain(curve) for curve in found]},
        figure=figure,
    )


def _is_crowd(curve: Curve) -> bool:
    return curve.problem == "crowd" and curve.rule == CONSTANT


def _plain(curve: Curve) -> dict[str, object]:
    return {
        "problem": curve.problem,
        "num_tasks": curve.tasks.num_tasks,
        "radius": curve.tasks.radius,
        "bound_of_losses": curve.tasks.bound,
        "rule": curve.rule,
        "num_steps": curve.num_steps,
        "gap": curve.gaps,
        "gap_over_bound": curve.over_bound(),
        "slope": None if math.isnan(curve.slope()) else curve.slope(),
        "farthest_over_radius": curve.farthest / curve.tasks.radius,
    }


def _draw(found: list[Curve], task_counts: list[int]) -> Figure:
    figure, axes = new_figure(len(task_counts), len(PROBLEMS), 2.5 * len(task_counts) + 0.6, share=True)
    for row, num_tasks in zip(axes, task_counts, strict=True):
        for axis, problem in zip(row, PROBLEMS, strict=True):
            here = [
                curve for curve in found if (curve.problem, curve.tasks.num_tasks) == (problem, num_tasks)
            ]
            tasks, num_steps = here[0].tasks, here[0].num_steps
            limit_line(axis, num_steps, [rate_bound(tasks, count) for count in num_steps], "bound 2R₀L′/√K")
            for curve in here:
                axis.loglog(
                    num_steps,
                    curve.gaps,
                    color=_COLOURS[curve.rule],
                    marker="o",
                    markersize=3,
                    label=curve.rule,
                )
            label(axis, f"{problem}, T = {num_tasks}")
    for axis in axes[-1]:
        axis.set_xlabel("steps K")
    for axis in axes[:, 0]:
        axis.set_ylabel("gap")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure

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
        """Fitted d log gap / d log K, from K = 100 on."""
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
    return Statement(
        name="theorem-3.1",
        findings=_findings(found),
        checks={
            "the gap is below 2R₀L′/√K wherever that is proven": _largest_over_bound(proven) <= 1,
            "no iterate is further from θ* than 2R₀": all(
                curve.farthest <= 2 * curve.tasks.radius for curve in proven
            ),
        },
        numbers={"curves": [_plain(curve) for curve in found]},
        figure=_draw(found, task_counts),
    )


def _findings(found: list[Curve]) -> list[str]:
    by_rule = {rule: [curve for curve in found if curve.rule == rule] for rule in _COLOURS}
    largest = {rule: _largest_over_bound(of_rule) for rule, of_rule in by_rule.items()}
    theorem = by_rule[THEOREM]
    smallest = min(min(curve.over_bound()) for curve in theorem)
    slopes = [curve.slope() for curve in theorem]
    schedules = [theorem_rule(curve.tasks) for curve in theorem]
    first = [schedule.alpha(0) for schedule in schedules]
    last = max(schedule.alpha(theorem[0].num_steps[-1] - 1) for schedule in schedules)
    outvoted = [curve for curve in by_rule[CONSTANT] if curve.problem == "crowd"][-1]
    return [
        f"The largest gap ÷ bound is {largest[THEOREM]:.2f} with the theorem's α and "
        f"{largest[SUBGRADIENT]:.2f} for subgradient descent, the smallest with the theorem's α "
        f"{smallest:.2f}: the bound is right, and of the right order.",
        f"Fitted slopes d log gap / d log K with the theorem's α: {min(slopes):.2f} to {max(slopes):.2f}.",
        f"With α = 1 the gap is up to {largest[CONSTANT]:.1f} times the bound. On the crowd with T = "
        f"{outvoted.tasks.num_tasks} it ends at {outvoted.gaps[-1]:.3f}, where min(1, log(T − 1)/2α) is "
        f"{plateau(outvoted.tasks.num_tasks, 1.0):.3f}: T − 1 tasks outvote one. α is in units of 1/loss: "
        "a value of 1 means nothing by itself.",
        f"The theorem's α is {min(first):.0f} to {max(first):.0f} at the first step and up to {last:,.0f} at "
        "the last, for losses of about 1: soon nearly the hard maximum. α_k = 2√(k+1) log T/(R₀L′), without "
        f"B and the logarithm of k, is enough (largest gap ÷ bound {largest[WITHOUT_LOG]:.2f}).",
        f"Steps that decay as R₀/(L′√(k+1)) stay below the bound too (up to {largest[DECAYING]:.2f}), though "
        "our proof does not say so.",
    ]


def _largest_over_bound(found: list[Curve]) -> float:
    return max(max(curve.over_bound()) for curve in found)


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
        "slope": curve.slope(),
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

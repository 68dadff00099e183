"""The tables of `estimators.py`, and the figures in them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from estimators_measure import EXACT, RunWeights
from rich.table import Table
from scipy.stats import spearmanr
from tables import CONSOLE, print_whole
from torch import Tensor


@dataclass(frozen=True)
class Figures:
    """How far an estimator's weights lie from the exact ones, over the steps of some runs at one α.

    Attributes:
        distances: [runs · K] total-variation distances.
        totals: [runs · K] sums of the weights.
        biases: [runs, T] mean over a run's steps of weight less exact weight.
        rank_correlation: of the tasks' bias with their count (Spearman); None where no bias differs.
    """

    estimator: str
    distances: Tensor
    totals: Tensor
    biases: Tensor
    rank_correlation: float | None


@dataclass(frozen=True)
class Comparison:
    """All estimators at one α, for the same runs."""

    alpha: float
    tasks: tuple[str, ...]
    counts: Tensor
    """[T] masked pieces a step, mean."""
    exact: Tensor
    """[T] exact weights, mean over runs and steps."""
    figures: list[Figures]

    @property
    def worst(self) -> int:
        """The task of the largest exact weight: one for all steps, since a step's own worst is part noise."""
        return int(self.exact.argmax())


def compare(runs: Sequence[RunWeights], tasks: tuple[str, ...]) -> Comparison:
    """The figures of runs at the same α."""
    counts = torch.cat([run.counts for run in runs]).double().mean(dim=0)
    exact = torch.cat([run.weights[EXACT] for run in runs]).mean(dim=0)
    names = [name for name in runs[0].weights if name != EXACT]
    return Comparison(runs[0].alpha, tasks, counts, exact, [figures_of(runs, name, counts) for name in names])


def figures_of(runs: Sequence[RunWeights], estimator: str, counts: Tensor) -> Figures:
    """Those of one estimator."""
    biases = torch.stack([run.errors(estimator).mean(dim=0) for run in runs])
    bias = biases.mean(dim=0)
    correlation = float(spearmanr(bias, counts).statistic) if bias.unique().numel() > 1 else None
    return Figures(
        estimator,
        torch.cat([run.distances(estimator) for run in runs]),
        torch.cat([run.weights[estimator].sum(dim=1) for run in runs]),
        biases,
        correlation,
    )


def print_comparison(found: Comparison) -> None:
    """A row for each estimator, then one for each task."""
    print_estimators(found)
    print_tasks(found)
    CONSOLE.print()


def print_estimators(found: Comparison) -> None:
    """Distances, and the bias of the worst task."""
    title = f"α = {found.alpha:g}: distance ½ Σ|w − exact w| of a step"
    table = Table("estimator", title=title, title_justify="left")
    worst = found.tasks[found.worst]
    bias_of_worst = f"bias of {worst} (exact {found.exact[found.worst]:.3f})"
    for column in ("mean", "95 %", "Σ w", bias_of_worst, "bias ~ count"):
        table.add_column(column, justify="right")
    for figures in found.figures:
        correlation = figures.rank_correlation
        table.add_row(
            figures.estimator,
            f"{figures.distances.mean():.4f}",
            f"{figures.distances.quantile(0.95):.4f}",
            f"{figures.totals.mean():.3f}",
            over_seeds(figures.biases[:, found.worst].tolist()),
            "–" if correlation is None else f"{correlation:+.2f}",
        )
    print_whole(table)


def print_tasks(found: Comparison) -> None:
    """The bias of each estimator that has one, the rarest task first."""
    biased = [figures for figures in found.figures if figures.biases.any()]
    title = f"α = {found.alpha:g}: bias, the mean over steps of w − exact w"
    table = Table("task", title=title, title_justify="left")
    for column in ("pieces a step", "exact w", *(figures.estimator for figures in biased)):
        table.add_column(column, justify="right")
    for task in found.counts.argsort().tolist():
        biases = (over_seeds(figures.biases[:, task].tolist()) for figures in biased)
        table.add_row(found.tasks[task], f"{found.counts[task]:.1f}", f"{found.exact[task]:.3f}", *biases)
    print_whole(table)


def over_seeds(biases: list[float]) -> str:
    """The mean, and ± the standard deviation over seeds where there are several."""
    spread = f" ±{statistics.stdev(biases):.4f}" if len(biases) > 1 else ""
    return f"{statistics.fmean(biases):+.4f}{spread}"


def as_json(place: str, options: dict[str, Any], found: list[Comparison]) -> dict[str, Any]:
    """Every figure, and what it was measured on."""
    return {
        "machine": place,
        "options": options,
        "alphas": [
            {
                "alpha": comparison.alpha,
                "counts": dict(zip(comparison.tasks, comparison.counts.tolist(), strict=True)),
                "exact_weights": dict(zip(comparison.tasks, comparison.exact.tolist(), strict=True)),
                "estimators": {
                    figures.estimator: {
                        "distances": figures.distances.tolist(),
                        "totals": figures.totals.tolist(),
                        "biases_by_seed": figures.biases.tolist(),
                        "rank_correlation": figures.rank_correlation,
                    }
                    for figures in comparison.figures
                },
            }
            for comparison in found
        ],
    }

"""The pictures of a report. A colour belongs to a method, in the order of the study file, or to a task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_prep.shards.palette import task_hues, terminal_color
from pipeline.engine.records import METRICS, VALIDATION
from pipeline.study.comparison import Comparison, pareto_front
from pipeline.study.history import curves
from pipeline.study.label_placement import place_names
from pipeline.study.statistics import AVERAGE, WORST, Array
from pipeline.study.tables import mark_of

_FEW = 8
_COLORS = [colormaps["tab10"](place)[:3] for place in range(10)]
_MARKERS, _LINES = ("o", "s", "^"), ("-", "--", ":")
_VERDICT_COLORS = {"better": "#17703f", "worse": "#a8321f", "": "#656d76"}
"""Those of the page, by what `mark_of` says."""
_LEGEND_COLUMNS, _LEGEND_ROW = 5, 0.25
"""The height of a row is in inches."""
_CURVES = {"worst_loss": "worst task", "average_loss": "average of tasks"}
"""By key of a line of validation.jsonl."""


@dataclass(frozen=True)
class _Style:
    """What tells a method from the others."""

    color: tuple[float, float, float]
    marker: str
    line: str


def losses_over_steps(comparison: Comparison) -> Figure | None:
    """Worst-task and average loss on the validation split while training: mean ± error over seeds."""
    arms = _chosen(comparison)
    figure = _figure(11, 4 + _LEGEND_ROW * -(-len(arms) // _LEGEND_COLUMNS))
    panels = figure.subplots(1, len(_CURVES))
    for axes, (key, title) in zip(panels, _CURVES.items(), strict=True):
        for arm in arms:
            found = curves(comparison.of(arm), VALIDATION, itemgetter(key))
            if found:
                style = _style(comparison, arm)
                axes.plot(
                    found.steps,
                    found.mean,
                    color=style.color,
                    linestyle=style.line,
                    marker=style.marker,
                    markersize=3.5,
                    linewidth=1.4,
                    label=arm,
                )
                low, high = found.mean - found.error, found.mean + found.error
                # Many bands are a fog.
                alpha = 0.18 if has_few_arms(comparison) else 0.06
                axes.fill_between(found.steps, low, high, color=style.color, alpha=alpha, linewidth=0)
        _cut_beginning(axes)
        axes.set(title=title, xlabel="step", ylabel="validation loss in nats")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _tidy(axes)
    if not any(axes.lines for axes in panels):
        return None
    _legend_below(figure, panels[0])
    return figure


def _cut_beginning(axes: Axes) -> None:
    """Leave the losses of the first quarter out of the limits: they dwarf all differences."""
    curves = [np.array(line.get_data()) for line in axes.lines]
    late = [y[x >= 0.25 * x.max()] for x, y in curves]
    if late:
        low, high = (extreme(np.concatenate(late)) for extreme in (np.min, np.max))
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def weights_over_steps(comparison: Comparison) -> Figure | None:
    """The share of each task in the weights of each chosen arm, mean over seeds, from step 0 on."""
    arms = _chosen(comparison)
    tasks = comparison.task_names
    colors = [terminal_color(hue) for hue in task_hues(len(tasks))]
    num_columns = 3 if len(arms) <= 9 else 4
    num_rows = -(-len(arms) // num_columns)
    figure = _figure(11, num_rows * (9 / num_columns) + 0.8)
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, arm in zip(panels, arms, strict=False):
        of_arm = curves(comparison.of(arm), METRICS, partial(_shares, tasks=tasks))
        if of_arm:
            for index, (task, color) in enumerate(zip(tasks, colors, strict=True)):
                axes.plot(of_arm.steps, of_arm.mean[:, index], color=color, label=task, linewidth=1.3)
        trunk = comparison.of(arm)[0].trunk
        if trunk:
            axes.axvline(trunk.config.steps, color="0.6", linestyle=":", linewidth=1)
        axes.set_title(arm, fontsize=10)
        axes.set(xlabel="step", ylabel="share of the weights")
        axes.label_outer()
        _tidy(axes)
    for axes in panels[len(arms) :]:
        axes.remove()
    for axes in panels[max(0, len(arms) - num_columns) : len(arms)]:
        axes.tick_params(labelbottom=True)  # also where nothing is below it in the last row
        axes.set_xlabel("step")
    if not any(axes.lines for axes in panels[: len(arms)]):
        return None
    _legend_below(figure, panels[0])
    return figure


def _shares(line: dict[str, Any], tasks: Sequence[str]) -> Array:
    """[T] weights of a line of metrics.jsonl, brought to sum 1: not all objectives' are."""
    weights = np.array([line["task_weight"].get(task) or 0.0 for task in tasks])
    return weights / (weights.sum() or 1.0)


def has_few_arms(comparison: Comparison) -> bool:
    """Whether bars, and bands over seeds, of the chosen arms can still be told apart."""
    return len(comparison.chosen) <= _FEW


def tasks_of_arms(comparison: Comparison) -> Figure:
    """Each task in each chosen arm: losses of a few arms, differences from the first baseline of many."""
    return _bars(comparison) if has_few_arms(comparison) else _intervals(comparison)


def _bars(comparison: Comparison) -> Figure:
    """Test losses, with standard errors over seeds; pale where not judged."""
    arms = _chosen(comparison)
    figures = comparison.splits["test"]
    tasks = _tasks_with_words(comparison)
    figure = _figure(11, 4.2)
    axes = figure.subplots()
    width = 0.84 / len(arms)
    for number, arm in enumerate(arms):
        means = [figures.means[arm][task] for task in tasks]
        places = [place + (number - (len(arms) - 1) / 2) * width for place in range(len(tasks))]
        bars = axes.bar(
            places,
            [mean.value for mean in means],
            width * 0.92,
            yerr=[mean.error or 0.0 for mean in means],
            color=_style(comparison, arm).color,
            error_kw={"elinewidth": 1, "ecolor": "0.25"},
            label=arm,
        )
        for bar, task in zip(bars, tasks, strict=True):
            bar.set_alpha(1.0 if task in figures.judged else 0.35)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set(ylabel="test loss in nats")
    axes.tick_params(axis="x", length=0)
    _tidy(axes, grid="y")
    _legend_below(figure, axes)
    return figure


def _intervals(comparison: Comparison) -> Figure:
    """Test losses less those of the first baseline, with 95 % intervals; a panel for each task."""
    figures = comparison.splits["test"]
    baseline = comparison.baselines[0]
    found = [each for arm in _chosen(comparison) if (each := figures.of(arm, baseline))]
    metrics = {WORST: "worst task", AVERAGE: "average"} | {
        task: task if task in figures.judged else f"{task} (too few words)"
        for task in _tasks_with_words(comparison)
    }
    num_columns = 4
    num_rows = -(-len(metrics) // num_columns)
    figure = _figure(11, num_rows * (0.19 * len(found) + 0.8) + 0.3)
    panels = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flatten()
    for axes, (metric, title) in zip(panels, metrics.items(), strict=False):
        for row, against in enumerate(found):
            difference = against.differences[metric]
            color = _VERDICT_COLORS[mark_of(difference)]
            if difference.low is not None:
                axes.plot([difference.low, difference.high], [row, row], color=color, linewidth=1.4)
            axes.plot(difference.value, row, marker="o", markersize=4.5, color=color)
        axes.axvline(0, color="0.25", linewidth=0.8)
        axes.set_title(title, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(axis="y", length=0, labelsize=8.5)
        _tidy(axes, grid="x")
    panels[0].set_yticks(range(len(found)), [against.arm for against in found])
    panels[0].set_ylim(len(found) - 0.5, -0.5)
    for axes in panels[len(metrics) :]:
        axes.remove()
    figure.supxlabel(f"test loss less that of {baseline}, in nats", fontsize=10)
    return figure


def worst_against_average(comparison: Comparison) -> Figure:
    """Every arm by its average and its worst test loss; a line joins those that no other one beats."""
    means = comparison.splits["test"].means
    points = {arm: (means[arm][AVERAGE].value, means[arm][WORST].value) for arm in comparison.arms}
    front = sorted(pareto_front(points), key=lambda arm: points[arm])
    figure = _figure(7.5, 5.4) if len(points) <= _FEW else _figure(10, 7)
    axes = figure.subplots()
    axes.step(
        [points[arm][0] for arm in front],
        [points[arm][1] for arm in front],
        where="post",
        color="0.55",
        linestyle="--",
        linewidth=1,
        label="Pareto front",
        zorder=1,
    )
    chosen = _chosen(comparison)
    for arm, (x, y) in points.items():
        style = _style(comparison, arm)
        axes.errorbar(
            x,
            y,
            xerr=means[arm][AVERAGE].error,
            yerr=means[arm][WORST].error,
            fmt=style.marker,
            color=style.color,
            markerfacecolor=style.color if arm in chosen else "white",
            elinewidth=1,
            markersize=7,
        )
    axes.margins(0.15)
    axes.set(xlabel="average test loss in nats", ylabel="worst-task test loss in nats")
    _tidy(axes)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", frameon=False)
    named = {arm: point for arm, point in points.items() if arm in chosen or arm in front}
    place_names(axes, named, bold=front, unnamed=[points[arm] for arm in points if arm not in named])
    return figure


def _tasks_with_words(comparison: Comparison) -> list[str]:
    means = next(iter(comparison.splits["test"].means.values()))
    return [task for task in comparison.task_names if not math.isnan(means[task].value)]


def _chosen(comparison: Comparison) -> list[str]:
    return list(comparison.chosen.values())


def _style(comparison: Comparison, arm: str) -> _Style:
    """That of the arm's method. After ten of them the colours come again, with other marks and lines."""
    number = list(comparison.chosen).index(comparison.of(arm)[0].method)
    again = number // len(_COLORS) % len(_MARKERS)
    return _Style(_COLORS[number % len(_COLORS)], _MARKERS[again], _LINES[again])


def _legend_below(figure: Figure, axes: Axes) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=_LEGEND_COLUMNS, frameon=False
    )


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _tidy(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)

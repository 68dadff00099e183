"""The pictures of a report. A colour belongs to a method, in the order of the study file, or to a task."""

import math
from operator import itemgetter
from typing import Literal

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data_prep.shards.palette import task_hues, terminal_color
from pipeline.engine.records import METRICS, VALIDATION
from pipeline.study.comparison import Comparison, pareto_front
from pipeline.study.history import curves
from pipeline.study.statistics import AVERAGE, WORST

_COLUMNS = 3
_CURVES = {"worst_loss": "worst task", "average_loss": "average of tasks"}
"""By key of a line of validation.jsonl."""


def losses_over_steps(comparison: Comparison) -> Figure | None:
    """Worst-task and average loss on the validation split while training: mean ± error over seeds."""
    figure = _figure(11, 4.4)
    panels = figure.subplots(1, len(_CURVES))
    for axes, (key, title) in zip(panels, _CURVES.items(), strict=True):
        for arm in _chosen(comparison):
            found = curves(comparison.of(arm), VALIDATION, itemgetter(key))
            if found:
                color = _color(comparison, arm)
                axes.plot(found.steps, found.mean, color=color, label=arm, marker=".", linewidth=1.6)
                low, high = found.mean - found.error, found.mean + found.error
                axes.fill_between(found.steps, low, high, color=color, alpha=0.18, linewidth=0)
        axes.set(title=title, xlabel="step", ylabel="validation loss in nats")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _tidy(axes)
    if not any(axes.lines for axes in panels):
        return None
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def weights_over_steps(comparison: Comparison) -> Figure | None:
    """The weight of each task in each chosen arm, mean over seeds, from step 0 on."""
    arms = _chosen(comparison)
    tasks = comparison.task_names
    colors = [terminal_color(hue) for hue in task_hues(len(tasks))]
    found = {
        arm: curves(
            comparison.of(arm), METRICS, lambda line: [line["task_weight"].get(task) or 0.0 for task in tasks]
        )
        for arm in arms
    }
    num_rows = -(-len(arms) // _COLUMNS)
    figure = _figure(11, num_rows * 3 + 0.8)
    panels = figure.subplots(num_rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).flatten()
    for axes, arm in zip(panels, arms, strict=False):
        of_arm = found[arm]
        if of_arm:
            for index, (task, color) in enumerate(zip(tasks, colors, strict=True)):
                axes.plot(of_arm.steps, of_arm.mean[:, index], color=color, label=task, linewidth=1.3)
        trunk = comparison.of(arm)[0].trunk
        if trunk:
            axes.axvline(trunk.config.steps, color="0.6", linestyle=":", linewidth=1)
        axes.set(title=arm, xlabel="step", ylabel="task weight")
        axes.label_outer()
        _tidy(axes)
    for axes in panels[len(arms) :]:
        axes.remove()
    if not panels[0].lines:
        return None
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def tasks_of_arms(comparison: Comparison) -> Figure:
    """Test loss of each task in each chosen arm, with standard errors over seeds; pale where not judged."""
    arms = _chosen(comparison)
    figures = comparison.splits["test"]
    tasks = [task for task in comparison.task_names if not math.isnan(figures.means[arms[0]][task].value)]
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
            color=_color(comparison, arm),
            error_kw={"elinewidth": 1, "ecolor": "0.25"},
            label=arm,
        )
        for bar, task in zip(bars, tasks, strict=True):
            bar.set_alpha(1.0 if task in figures.judged else 0.35)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set(ylabel="test loss in nats")
    axes.tick_params(axis="x", length=0)
    _tidy(axes, grid="y")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def worst_against_average(comparison: Comparison) -> Figure:
    """Every arm by its average and its worst test loss; a line joins those that no other one beats."""
    means = comparison.splits["test"].means
    points = {arm: (means[arm][AVERAGE].value, means[arm][WORST].value) for arm in comparison.arms}
    front = sorted(pareto_front(points), key=lambda arm: points[arm])
    figure = _figure(7.5, 5.4)
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
    for arm, (x, y) in points.items():
        is_chosen = arm in comparison.chosen.values()
        color = _color(comparison, arm)
        face = color if is_chosen else "white"
        axes.errorbar(
            x,
            y,
            xerr=means[arm][AVERAGE].error,
            yerr=means[arm][WORST].error,
            fmt="o",
            color=color,
            markerfacecolor=face,
            elinewidth=1,
            markersize=7,
        )
        if is_chosen or arm in front:
            weight = "bold" if arm in front else "normal"
            axes.annotate(
                arm, (x, y), xytext=(7, 6), textcoords="offset points", fontsize=9, fontweight=weight
            )
    axes.margins(0.2)
    axes.set(xlabel="average test loss in nats", ylabel="worst-task test loss in nats")
    _tidy(axes)
    axes.legend(frameon=False, loc="best")
    return figure


def _chosen(comparison: Comparison) -> list[str]:
    return list(comparison.chosen.values())


def _color(comparison: Comparison, arm: str) -> tuple[float, float, float, float]:
    methods = list(comparison.chosen)
    return colormaps["tab10"](methods.index(comparison.of(arm)[0].method) % 10)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _tidy(axes: Axes, grid: Literal["both", "y"] = "both") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)

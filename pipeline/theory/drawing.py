"""How the figures of the theory look."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#1f6fb4", "#d9822b", "#2f8f5b", "#c23b3b", "#7a5195", "#6a6a6a"


def new_figure(
    num_rows: int, num_columns: int, height: float, *, share: bool = False
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure 10.5 inches wide and its [num_rows, num_columns] axes."""
    figure = Figure(figsize=(10.5, height), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, sharex=share, sharey=share)
    return figure, axes


def label(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title at the left, axis labels, a light grid, no frame."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def limit_line(axes: Axes, x: Sequence[float], y: Sequence[float], name: str) -> None:
    """A bound: black, dashed."""
    axes.plot(x, y, color="black", linestyle="--", linewidth=1.1, label=name, zorder=3)

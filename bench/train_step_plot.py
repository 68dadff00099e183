"""The picture that `train_step.py` draws of its numbers."""

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from train_step_clock import REGIONS
from train_step_measure import Found
from train_step_report import median_s

BAR_INCHES, MARGIN_INCHES = 0.3, 0.9
COLOURS = {region: colormaps["tab10"](place) for place, region in enumerate(REGIONS)}


def draw(parts: list[Found], path: Path) -> None:
    """A row for each part that was timed: the median of each region, one after the other."""
    drawn = [found for found in parts if any(result.regions for result in found.results.values())]
    heights = [len(found.results) * BAR_INCHES + MARGIN_INCHES for found in drawn]
    figure = Figure(figsize=(11, sum(heights) + MARGIN_INCHES), layout="constrained")
    rows = figure.subplots(max(1, len(drawn)), 1, squeeze=False, height_ratios=heights or None)[:, 0]
    for found, axes in zip(drawn, rows, strict=False):
        draw_part(axes, found)
    figure.legend(*rows[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)


def draw_part(axes: Axes, found: Found) -> None:
    """A bar for each variant, a colour for each region."""
    results = list(found.results.values())
    left = [0.0] * len(results)
    for region in REGIONS:
        widths = [median_s(result, region) * 1e3 for result in results]
        axes.barh(range(len(results)), widths, left=left, color=COLOURS[region], label=region)
        left = [edge + width for edge, width in zip(left, widths, strict=True)]
    for place, edge in enumerate(left):
        offset: dict[str, Any] = {
            "xytext": (4, 0),
            "textcoords": "offset points",
            "va": "center",
            "fontsize": 8,
        }
        axes.annotate(f"{edge:,.0f}", (edge, place), **offset)
    axes.set_yticks(range(len(results)), [result.name for result in results])
    axes.invert_yaxis()
    axes.set_title(found.title, loc="left", fontsize=9, fontweight="bold")
    axes.set_xlabel("ms a step")
    axes.set_xlim(0, 1.06 * max(left))
    axes.spines[["top", "right"]].set_visible(False)

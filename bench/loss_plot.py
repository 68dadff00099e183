"""The picture that `loss_kernel.py` draws of its numbers."""

import statistics
import textwrap
from pathlib import Path

from loss_measure import Found, Result
from loss_peers import BOUNDS, OURS, PRODUCTS
from loss_report import time_ratios
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tables import MIB, ratio

OURS_COLOUR, PEER_COLOUR, BOUND_COLOUR = "#1f6fb4", "#b5b5b5", "#6a6a6a"
BAR_INCHES, MARGIN_INCHES = 0.24, 1.0
LONGEST_RATIO = 4


def draw(cases: list[Found], place: str, path: Path) -> None:
    """A row for each case: time over the three products with its range, and peak memory; `place` above."""
    heights = [max(1, len(timed(found))) * BAR_INCHES + MARGIN_INCHES for found in cases]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    axes = figure.subplots(len(cases), 2, squeeze=False, sharey="row", height_ratios=heights)
    for found, (time_axes, peak_axes) in zip(cases, axes, strict=True):
        results = timed(found)
        time_axes.set_yticks(range(len(results)), [result.name for result in results])
        time_axes.invert_yaxis()
        time_axes.set_title(found.case.title, loc="left", fontweight="bold")
        draw_times(time_axes, results, found.results[PRODUCTS])
        draw_peaks(peak_axes, results)
    sizes = f"N = {cases[0].case.rows:,}, V = {cases[0].case.vocab:,}: forward and backward. {place}"
    figure.suptitle(textwrap.fill(sizes, 140), x=0.01, ha="left", fontsize=8)
    figure.savefig(path, dpi=150)


def timed(found: Found) -> list[Result]:
    """What there is to draw."""
    return [result for result in found.results.values() if result.seconds]


def draw_times(axes: Axes, results: list[Result], products: Result) -> None:
    """Bars at the median ratio, whiskers from the smallest to the largest; long bars are cut."""
    ratios = [time_ratios(result, products) for result in results]
    medians = [statistics.median(values) for values in ratios]
    below = [median - min(values) for median, values in zip(medians, ratios, strict=True)]
    above = [max(values) - median for median, values in zip(medians, ratios, strict=True)]
    limit = min(1.02 * max(map(max, ratios)), LONGEST_RATIO)
    whiskers = {"ecolor": "black", "elinewidth": 1, "capsize": 2}
    axes.barh(range(len(results)), medians, color=colours(results), xerr=(below, above), error_kw=whiskers)
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    for place, values in enumerate(ratios):
        text = ratio(medians[place]) + (" →" if max(values) > limit else "")
        axes.annotate(text, (min(max(values), limit), place), **beside_a_bar())
    tidy(axes, "time ÷ three products: median, min – max", limit)


def draw_peaks(axes: Axes, results: list[Result]) -> None:
    """Bars of the peak in MiB."""
    peaks = [(result.peak_bytes or 0) / MIB for result in results]
    axes.barh(range(len(results)), peaks, color=colours(results))
    for place, (peak, result) in enumerate(zip(peaks, results, strict=True)):
        text = f"{peak:,.0f}" if result.peak_bytes is not None else "not measured"
        axes.annotate(text, (peak, place), **beside_a_bar())
    axes.tick_params(axis="y", length=0)
    tidy(axes, "peak memory of a step, MiB", 1.02 * max(*peaks, 1))


def colours(results: list[Result]) -> list[str]:
    """Ours stand out, and the three products from the peers."""
    of_names = dict.fromkeys(OURS, OURS_COLOUR) | dict.fromkeys(BOUNDS, BOUND_COLOUR)
    return [of_names.get(result.name, PEER_COLOUR) for result in results]


def beside_a_bar() -> dict[str, object]:
    """Where its number stands."""
    return {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}


def tidy(axes: Axes, label: str, limit: float) -> None:
    """The axis that carries the numbers, and no frame."""
    axes.set_xlabel(label)
    axes.set_xlim(0, limit)
    axes.spines[["top", "right"]].set_visible(False)

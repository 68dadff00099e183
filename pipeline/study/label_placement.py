"""Names beside the points of a picture, so that they hide neither each other nor the points."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

from pipeline.study.statistics import Array

_ANGLES = np.radians(
    [45, 0, -45, 135, 180, -135, 90, -90, 22.5, -22.5, 157.5, -157.5, 67.5, -67.5, 112.5, -112.5]
)
"""Where a name may stand as seen from its point, the best first."""
_DISTANCES = (8, 16, 26, 38, 52, 68, 86)
"""From the point to the name, in points of 1/72 inch."""
_FAR = 16
"""From this distance on a line leads to the name."""
_MARKER = 10
"""Width of what marks a point."""
_MARGIN = 2
"""Around a name."""
_FONT_SIZE = 9


def place_names(
    axes: Axes,
    points: Mapping[str, tuple[float, float]],
    *,
    bold: Sequence[str] = (),
    unnamed: Sequence[tuple[float, float]] = (),
) -> list[Bbox]:
    """Write a name beside each of `points`, in their order, where it hides least.

    The limits of the axes must be final: places are compared as they appear.

    Args:
        axes: of a figure.
        points: x and y by name.
        bold: names that stand out.
        unnamed: x and y of further points.

    Returns:
        Where the names stand, in pixels.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    centres = axes.transData.transform([*points.values(), *unnamed])
    taken = [_box(centre, np.full(2, _MARKER * pixels)) for centre in centres]
    names = []
    for (name, point), centre in zip(points.items(), centres, strict=False):
        weight = "bold" if name in bold else "normal"
        size = _size(axes, name, weight) + 2 * _MARGIN * pixels
        offset, distance = _best_place(centre, size, pixels, taken, axes.get_window_extent())
        text = axes.annotate(
            name,
            point,
            xytext=tuple(offset / pixels),
            textcoords="offset points",
            fontsize=_FONT_SIZE,
            fontweight=weight,
            horizontalalignment="center",
            verticalalignment="center",
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.7, "shrinkB": _MARKER / 2}
            if distance >= _FAR
            else None,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])  # lines may cross it
        text.set_in_layout(False)  # which would move what the places were found for
        names.append(_box(centre + offset, size))
        taken.append(names[-1])
    return names


def _best_place(
    centre: Array, size: Array, pixels: float, taken: Sequence[Bbox], inside: Bbox
) -> tuple[Array, float]:
    """Offset [2] from the point and distance of the first place that hides nothing, or hides least."""
    places = []
    for distance in _DISTANCES:
        for angle in _ANGLES:
            offset = np.array([np.cos(angle), np.sin(angle)]) * (distance * pixels + size / 2)
            box = _box(centre + offset, size)
            outside = size.prod() - _overlap(box, inside)
            places.append((offset, distance, outside + sum(_overlap(box, other) for other in taken)))
            if places[-1][2] < 1:
                return offset, distance
    return min(places, key=lambda place: place[2])[:2]


def _size(axes: Axes, name: str, weight: str) -> Array:
    """[2] width and height of a name in pixels."""
    text = axes.text(0, 0, name, fontsize=_FONT_SIZE, fontweight=weight)
    extent = text.get_window_extent()
    text.remove()
    return np.array([extent.width, extent.height])


def _box(centre: Array, size: Array) -> Bbox:
    return Bbox([centre - size / 2, centre + size / 2])


def _overlap(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share."""
    shared = Bbox.intersection(one, other)
    return float(shared.width * shared.height) if shared else 0.0

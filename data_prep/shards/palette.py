"""Colours and marks that tell any number of tasks apart."""

from collections.abc import Sequence

import numpy as np

_LIGHTNESS, _CHROMA = 0.565, 0.13
_OKLAB_TO_LMS = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_LMS_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def task_hues(num_tasks: int) -> list[float]:
    """A hue in degrees for each task, evenly apart; tasks next to each other in the list lie far apart."""
    step = next((i for i in range(round(num_tasks * 0.382), num_tasks) if i and np.gcd(i, num_tasks) == 1), 1)
    return [25 + 360 * (i * step % num_tasks) / num_tasks for i in range(num_tasks)]


def terminal_color(hue: float) -> str:
    """A colour `#rrggbb` that is readable on black and on white, of a hue of the OKLCH space.

    OKLCH (Ottosson 2020) keeps lightness equal across hues, so no task stands out.
    """
    angle = np.radians(hue)
    oklab = np.array([_LIGHTNESS, _CHROMA * np.cos(angle), _CHROMA * np.sin(angle)])
    linear = np.clip(_LMS_TO_RGB @ (_OKLAB_TO_LMS @ oklab) ** 3, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * float(value)):02x}" for value in encoded)


def task_marks(names: Sequence[str]) -> list[str]:
    """The shortest beginning of each name that no other name has; the name itself where there is none."""
    return [
        next((name[:end] for end in range(1, len(name)) if _is_unique(name[:end], names)), name)
        for name in names
    ]


def _is_unique(beginning: str, names: Sequence[str]) -> bool:
    return sum(name.startswith(beginning) for name in names) == 1

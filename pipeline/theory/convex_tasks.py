"""Convex tasks whose Lipschitz constant, bound and minimax optimum are known in closed form."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_SHARP = 1e-12
"""Half-width of the parabola that stands in for the corner of |z|; far below any gap that is shown."""


@dataclass(frozen=True)
class ConvexTasks:
    """T tasks L_t(θ) = h(θ_{i(t)} − c_t), with max_t L_t smallest at θ* = 0.

    h is Huber's function: |z| − δ/2 where |z| ≥ δ, else z²/2δ. It is convex and 1-Lipschitz, so L′ = 1.

    Attributes:
        coordinates: [T] int64 i(t).
        centres: [T] c_t.
        width: δ > 0.
        start: [d] θ₀.
        optimum: min_θ max_t L_t(θ).
    """

    coordinates: Tensor
    centres: Tensor
    width: float
    start: Tensor
    optimum: float

    lipschitz = 1.0
    """L′, of every task."""

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.centres)

    @property
    def radius(self) -> float:
        """R₀ = ‖θ₀ − θ*‖."""
        return float(self.start.norm())

    @property
    def bound(self) -> float:
        """B: no loss exceeds it within 2R₀ of θ*, which the descent never leaves (see `theorem_3_1`)."""
        at_optimum = huber(-self.centres, torch.tensor(self.width))[0].max()
        return 2 * self.radius * self.lipschitz + float(at_optimum)

    def gap(self, point: Tensor) -> float:
        """max_t L_t − its minimum, at a [d] point."""
        losses, _ = huber(point[self.coordinates] - self.centres, torch.tensor(self.width))
        return float(losses.max()) - self.optimum


def huber(residuals: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Huber's function of slope 1 and its derivative, elementwise."""
    slopes = (residuals / width).clamp(-1, 1)
    return slopes * (residuals - slopes * width / 2), slopes


def crowd(num_tasks: int) -> ConvexTasks:
    """On a line: |θ + 1| once, |θ − 1| for the other T − 1; the start is beyond the crowd.

    With a constant α the crowd outvotes the other: descent ends at θ = log(T − 1)/2α, at most 1.
    """
    return _opposed(num_tasks, _SHARP, optimum=1.0)


def smooth_crowd(num_tasks: int) -> ConvexTasks:
    """`crowd` with parabolas of half-width 2 for corners: smooth and curved where the optimum is."""
    return _opposed(num_tasks, 2.0, optimum=0.25)


def corner(num_tasks: int) -> ConvexTasks:
    """|θ_t| for every coordinate, so that max_t L_t is the maximum norm; the start has the norm √T.

    Only one coordinate at a time can be the worst: hard for whoever follows the worst task alone.
    """
    start = torch.linspace(0.5, 1.5, num_tasks, dtype=torch.float64)
    return ConvexTasks(
        coordinates=torch.arange(num_tasks),
        centres=torch.zeros(num_tasks, dtype=torch.float64),
        width=_SHARP,
        start=start * math.sqrt(num_tasks) / start.norm(),
        optimum=0.0,
    )


def _opposed(num_tasks: int, width: float, optimum: float) -> ConvexTasks:
    centres = torch.ones(num_tasks, dtype=torch.float64)
    centres[0] = -1
    start = torch.tensor([2.0], dtype=torch.float64)
    return ConvexTasks(torch.zeros(num_tasks, dtype=torch.int64), centres, width, start, optimum)


PROBLEMS: dict[str, Callable[[int], ConvexTasks]] = {
    "crowd": crowd,
    "smooth crowd": smooth_crowd,
    "maximum norm": corner,
}

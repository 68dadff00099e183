"""Task losses on another scale than nats."""

from dataclasses import replace

from torch import Tensor

from pipeline.objectives.initial_losses import SMALLEST_LOSS, InitialLosses
from pipeline.objectives.interface import Objective, TaskStats


class Normalised(Objective):
    """`objective` on φ(L_t) instead of L_t: c_t = w_t φ′(L_t), with the weights w made from φ(L).

    Where Σ w_t ∇L_t is the gradient of F(L), Σ c_t ∇L_t is that of F(φ(L)). With `initial` losses z, φ(L) =
    L / z: the worst task is the one that has come down least from its beginning. Without, φ(L) = log L: one
    that is e times another is 1 ahead. α has the unit of 1 / φ. The coefficients sum to about 1 / L, no more
    to 1, which matters to sgd and to gradient clipping.

    It costs what `objective` does. It fails at its reference: at random parameters all losses are ln V, and
    L / z is L on another scale (a warm start tells them apart); log L is steep where a loss is near 0.
    """

    def __init__(self, objective: Objective, initial: InitialLosses | None) -> None:
        super().__init__()
        self._objective = objective
        self._initial = initial

    def reads_losses(self, step: int) -> bool:
        """As the objective; φ′ is that of the losses which the weights are made from."""
        return self._objective.reads_losses(step)

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] w_t φ′(L_t)."""
        values, slopes = self._normalised(stats)
        return slopes * self._objective.coefficients(replace(stats, losses=values))

    def after_step(self, stats: TaskStats) -> None:
        """Tell the objective φ(L) of the step."""
        values, _ = self._normalised(stats)
        self._objective.after_step(replace(stats, losses=values))
        if self._initial is not None:
            self._initial.after_step(stats)

    def _normalised(self, stats: TaskStats) -> tuple[Tensor, Tensor]:
        """[T] φ(L_t) and [T] φ′(L_t)."""
        if self._initial is not None:
            slopes = 1 / self._initial.of(stats)
            return slopes * stats.losses, slopes
        losses = stats.losses.clamp(min=SMALLEST_LOSS)
        return losses.log(), 1 / losses

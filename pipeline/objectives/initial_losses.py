"""What the losses of an objective's first steps were, as a measure for later ones."""

import torch
from torch import Tensor, nn

from pipeline.objectives.interface import TaskStats

SMALLEST_LOSS = 1e-8
"""In nats: where a logarithm or a ratio is taken, less counts as much."""


class InitialLosses(nn.Module):
    """z_t: the pooled mean loss of each task over the first `window` steps, as far as these are over.

    A task that has no label in these has the mean of its first step with one.
    """

    def __init__(self, num_tasks: int, window: int) -> None:
        super().__init__()
        self._window = window
        self._sums: Tensor
        self._counts: Tensor
        self.register_buffer("_sums", torch.zeros(num_tasks, dtype=torch.float64))
        self.register_buffer("_counts", torch.zeros(num_tasks, dtype=torch.float64))

    def of(self, stats: TaskStats) -> Tensor:
        """[T] z_t in nats, above 0; the present loss where none is known yet."""
        known = self._sums / self._counts.clamp(min=1)
        return torch.where(self._counts > 0, known, stats.losses).clamp(min=SMALLEST_LOSS)

    def after_step(self, stats: TaskStats) -> None:
        """Take in the losses of one of the first steps."""
        counts = stats.counts.to(self._sums.dtype)
        if stats.step >= self._window:
            counts = torch.where(self._counts > 0, 0.0, counts)
        self._sums = self._sums + stats.losses * counts
        self._counts = self._counts + counts

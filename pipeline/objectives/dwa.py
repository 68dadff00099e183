"""More weight to what improves slowly."""

import torch
from task_kernels import softmax_weights
from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class Dwa(Objective):
    """c_t = T · softmax(r / temperature)_t, r_t the task's loss in the last window ÷ the one before it.

    Dynamic weight average (Liu et al., arXiv 1803.10704, equation 7), with windows of `window` steps where
    the original has epochs: their pooled mean losses, Σ sums / Σ counts. In the first two windows all weights
    are 1. It optimises no stated function of the losses; it evens out relative speeds.

    One pass; state: the open window and two means. The coefficients sum to the number of valid tasks: T times
    those of `average`, which matters to sgd and to gradient clipping. It fails by doing nothing: in a slow
    training all r are near 1, and so are the weights; with short windows r is noise.
    """

    def __init__(self, num_tasks: int, temperature: float, window: int) -> None:
        super().__init__()
        self._temperature = temperature
        self._window = window
        self._sums: Tensor
        self._counts: Tensor
        self._latest: Tensor
        self._earlier: Tensor
        for name in ("_sums", "_counts", "_latest", "_earlier"):  # a mean of 0 is one that is not known
            self.register_buffer(name, torch.zeros(num_tasks, dtype=torch.float64))

    def reads_losses(self, step: int) -> bool:
        """Never: windows that are over decide."""
        return False

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] weights of the valid tasks; they sum to the number of these."""
        known = (self._earlier > 0) & (self._latest > 0)
        ratios = torch.where(known, self._latest / self._earlier, 1.0)
        return stats.valid.sum() * softmax_weights(ratios / self._temperature, 1.0, stats.valid)

    def after_step(self, stats: TaskStats) -> None:
        """Add a step to the window, which ends with every `window`-th."""
        self._sums = self._sums + torch.where(stats.present, stats.losses * stats.counts, 0.0)
        self._counts = self._counts + stats.counts
        if (stats.step + 1) % self._window == 0:
            means = self._sums / self._counts.clamp(min=1)
            self._earlier, self._latest = self._latest, torch.where(self._counts > 0, means, self._latest)
            self._sums, self._counts = torch.zeros_like(means), torch.zeros_like(means)

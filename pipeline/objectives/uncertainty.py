"""Weights that are learned as the noise of each task."""

import torch
from torch import Tensor

from pipeline.objectives.adam import Adam
from pipeline.objectives.interface import Objective, TaskStats

_FIRST_LOG_VARIANCE = -0.5


class Uncertainty(Objective):
    """c_t = ½ exp(−s_t), with s_t learned (Kendall et al., arXiv 1705.07115, as LibMTL computes it).

    Descends Σ ½ (exp(−s_t) L_t + s_t) in the parameters and in s, whose gradient ½ (1 − exp(−s_t) L_t) has a
    closed form in the global means. s begins at −½ and moves by an Adam of its own with rate `lr`, after each
    step, without weight decay. At its optimum s_t = ln L_t and c_t = 1 / (2 L_t): it descends ½ Σ ln L_t, so
    hard tasks have the least weight, which is the opposite of `minimax`.

    One pass; state: s and two moments. The coefficients do not sum to 1. It fails the worst task by design,
    and lags by some 1 / lr steps.
    """

    def __init__(self, num_tasks: int, lr: float) -> None:
        super().__init__()
        self._adam = Adam(num_tasks, lr)
        self._log_variances: Tensor
        first = torch.full((num_tasks,), _FIRST_LOG_VARIANCE, dtype=torch.float64)
        self.register_buffer("_log_variances", first)

    def reads_losses(self, step: int) -> bool:
        """Never: s is what the steps before made it."""
        return False

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] ½ exp(−s_t) of the valid tasks."""
        return torch.where(stats.valid, 0.5 * torch.exp(-self._log_variances), 0.0)

    def after_step(self, stats: TaskStats) -> None:
        """Move s of the present tasks."""
        gradient = 0.5 * (1 - torch.exp(-self._log_variances) * stats.losses)
        self._log_variances = self._log_variances + self._adam.change(gradient, stats.present)

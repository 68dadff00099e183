"""The worst ratio of a task's loss to what it was, smoothed."""

import torch
from task_kernels import softmax_weights
from torch import Tensor

from pipeline.objectives.initial_losses import SMALLEST_LOSS, InitialLosses
from pipeline.objectives.interface import Objective, TaskStats


class Tchebycheff(Objective):
    """c_t = softmax(log(L / z) / μ)_t / L_t, the gradient of μ log Σ exp(log(L_t / z_t) / μ).

    Smooth Tchebycheff scalarisation (Lin et al., arXiv 2402.19078) of log-ratios, as LibMTL computes it, less
    its factor T. z_t is the pooled mean loss of the objective's first steps. As μ → 0 it descends the largest
    log(L_t / z_t): the task that has come down least. At μ = 1 it is Σ L_t / z_t, static weights 1 / z, with
    a common factor 1 / Σ (L_s / z_s). It is `minimax` with α = 1 / μ on log(L / z).

    Cost as `minimax`; state: z. It fails without a warm start: all z are ln V then, and easy tasks, which
    come down first, have no weight left to be learned with.
    """

    def __init__(self, initial: InitialLosses, mu: float) -> None:
        super().__init__()
        self._initial = initial
        self._mu = mu

    def reads_losses(self, step: int) -> bool:
        """Always."""
        return True

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] weights ÷ losses; c_t L_t sums to 1."""
        losses = stats.losses.clamp(min=SMALLEST_LOSS)
        log_ratios = torch.log(losses / self._initial.of(stats))
        return softmax_weights(log_ratios / self._mu, 1.0, stats.valid) / losses

    def after_step(self, stats: TaskStats) -> None:
        """Take in the first losses."""
        self._initial.after_step(stats)

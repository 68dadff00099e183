"""Equal relative progress, for the price of one pass."""

import torch
from task_kernels import softmax_weights
from torch import Tensor

from pipeline.objectives.adam import Adam
from pipeline.objectives.initial_losses import SMALLEST_LOSS
from pipeline.objectives.interface import Objective, TaskStats

_WEIGHT_DECAY = 1e-3


class Famo(Objective):
    """c_t = (z_t / L_t) / Σ_s (z_s / L_s), z = softmax(ξ) (Liu et al., arXiv 2306.03792).

    Descends Σ z_t log L_t, and moves ξ so that the task whose log L falls least gets more: with
    δ_t = log L_t(before) − log L_t(after) an update, ξ takes a step of an Adam of its own, rate `lr`, along
    −(∂z/∂ξ)ᵀ δ − γ ξ, γ = 0.001.

    The original takes both losses on the same batch, with a second forward pass after each update. Ours are
    those of consecutive steps, which costs no pass but puts the noise of two batches into δ. It fails
    where that noise is larger than the progress of a step: ξ of a task with few labels is a random walk, on
    which γ pulls. It is an average-oriented method: a task that stays bad, but falls like the others, has no
    more weight for it. State: ξ, two moments, the last losses.
    """

    def __init__(self, num_tasks: int, lr: float) -> None:
        super().__init__()
        self._adam = Adam(num_tasks, lr)
        self._logits: Tensor
        self._before: Tensor
        self.register_buffer("_logits", torch.zeros(num_tasks, dtype=torch.float64))
        self.register_buffer("_before", torch.zeros(num_tasks, dtype=torch.float64))  # 0: not known

    def reads_losses(self, step: int) -> bool:
        """Always."""
        return True

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] weights ÷ losses, brought to sum 1."""
        shares = softmax_weights(self._logits, 1.0, stats.valid) / stats.losses.clamp(min=SMALLEST_LOSS)
        return shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)

    def after_step(self, stats: TaskStats) -> None:
        """Move ξ of the tasks that are in this step, and were in an earlier one."""
        losses = stats.losses.clamp(min=SMALLEST_LOSS)
        known = stats.present & (self._before > 0)
        progress = torch.where(known, torch.log(self._before.clamp(min=SMALLEST_LOSS) / losses), 0.0)
        weights = softmax_weights(self._logits, 1.0, known)
        gradient = weights * (progress - (weights * progress).sum()) + _WEIGHT_DECAY * self._logits
        self._logits = self._logits + self._adam.change(gradient, known)
        self._before = torch.where(stats.present, losses, self._before)

"""The worst-case loss, by exponentiated gradient ascent on the weights."""

import torch
from task_kernels import softmax_weights
from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class GroupDro(Objective):
    """c_t = q_t, with q_t ∝ q_t^m exp(η L_t) before each step (Sagawa et al., arXiv 1911.08731, algorithm 1).

    Solves max_q Σ q_t L_t on the simplex, against which the parameters descend. With memory m = 1 it is the
    published rule, whose weights remember all steps; with m = 0 it is `minimax` with α = η, and between the
    two α is about η / (1 − m) for a loss that stands still.

    Cost as `minimax`; state: q. It fails with m = 1 where one task stays the worst: its weight goes to 1 and
    the others are forgotten, the faster the larger η. A task that is absent keeps its last known loss; in the
    published code it has loss 0.
    """

    def __init__(self, num_tasks: int, step_size: float, memory: float) -> None:
        super().__init__()
        self._step_size = step_size
        self._memory = memory
        self._log_q: Tensor
        # Up to a factor: 0 is the mean of the tasks that have been seen, where a new one comes in.
        self.register_buffer("_log_q", torch.zeros(num_tasks, dtype=torch.float64))

    def reads_losses(self, step: int) -> bool:
        """Always: q rises before the step, not after it."""
        return True

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] q over the valid tasks; sums to 1."""
        return softmax_weights(self._risen(stats), 1.0, stats.valid)

    def after_step(self, stats: TaskStats) -> None:
        """Keep q as the losses of the whole step make it."""
        risen = torch.where(stats.valid, self._risen(stats), -torch.inf)
        mean = torch.logsumexp(risen, 0) - torch.log(stats.valid.sum())
        self._log_q = torch.where(stats.valid, risen - mean, 0.0)

    def _risen(self, stats: TaskStats) -> Tensor:
        return self._memory * self._log_q + self._step_size * stats.losses

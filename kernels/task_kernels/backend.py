"""What an implementation provides: the passes over logits. The matrix products around them are torch's."""

from typing import Protocol

import torch
from torch import Tensor


class Backend(Protocol):
    """Arithmetic in fp32 whatever the type of the logits. Labels are int64; one below 0 is left out."""

    def description(self, dtype: torch.dtype) -> str:
        """What computes the rows, for the log."""

    def softmax_minus_onehot_(self, logits: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        """Turn logits [N, V] into softmax(logits + bias) − onehot(labels) in place.

        Returns:
            losses [N] fp32 in nats.
        """

    def log_sum_exp(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-sum-exp [N] and the label's logit [N], both fp32, of hidden · weightᵀ + bias.

        The logits are not kept. Where the row is left out, the latter is 0.
        """

    def gradient_tile_(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        log_sum_exps: Tensor,
        first: int,
        gradient: Tensor,
    ) -> None:
        """Write columns [first, first + v) of softmax − onehot, made again, to gradient [N, v]."""

    def task_sums(
        self, losses: Tensor, task_ids: Tensor, labels: Tensor, num_tasks: int
    ) -> tuple[Tensor, Tensor]:
        """Sums [T] fp32 of losses [N] fp32, and counts [T] int64; the same bits on every run."""

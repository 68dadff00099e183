"""The loss kernel on tensors without data: what it allocates and multiplies, without its arithmetic."""

import torch
from task_kernels.full import FullCrossEntropy
from task_kernels.losses import MAX_LOGITS_BYTES, TaskSums
from task_kernels.tiled import TiledCrossEntropy
from torch import Tensor, nn


class LossShapes(nn.Module):
    """Stands in for an output layer with the loss kernel, with the layer's own parameters.

    Args:
        layer: with `weight` [V, D] and `bias` [V].
        keep_logits: whatever their size; else as the kernel decides.
    """

    def __init__(self, layer: nn.Linear, *, keep_logits: bool) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self._keep_logits = keep_logits

    def forward(
        self, hidden: Tensor, labels: Tensor, task_ids: Tensor, num_tasks: int
    ) -> tuple[Tensor, Tensor]:
        """As `task_kernels.task_loss_sums`, for rows that all count."""
        logits_bytes = len(hidden) * len(self.weight) * hidden.element_size()
        keeps = self._keep_logits or logits_bytes < MAX_LOGITS_BYTES
        cross_entropy = FullCrossEntropy if keeps else TiledCrossEntropy
        backend = _ShapesBackend()
        losses = cross_entropy.apply(hidden, self.weight, self.bias, labels, backend)
        return TaskSums.apply(losses, task_ids, labels, num_tasks, backend)


class _ShapesBackend:
    """`task_kernels.backend.Backend` whose results have no values."""

    def softmax_minus_onehot_(self, logits: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        return _numbers_of_rows(logits)

    def log_sum_exp(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        return _numbers_of_rows(hidden), _numbers_of_rows(hidden)

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
        pass

    def task_sums(
        self, losses: Tensor, task_ids: Tensor, labels: Tensor, num_tasks: int
    ) -> tuple[Tensor, Tensor]:
        return losses.new_empty(num_tasks), task_ids.new_empty(num_tasks)


def _numbers_of_rows(rows: Tensor) -> Tensor:
    """[N] fp32."""
    return rows.new_empty(len(rows), dtype=torch.float32)

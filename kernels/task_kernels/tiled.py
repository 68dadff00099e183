"""Cross entropy of a linear layer without its logits in memory: a tile of classes at a time, twice."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from task_kernels.backend import Backend

_TILE_BYTES = {"cpu": 16 * 1024**2, "cuda": 64 * 1024**2}
_CLASS_MULTIPLE = 128


class TiledCrossEntropy(Function):
    """losses [N] fp32 of hidden [N, D], weight [V, D], bias [V] or None, labels [N] int64.

    The forward pass keeps the log-sum-exp of each row. The backward pass makes G = softmax − onehot again,
    one tile of classes after another. Tiles of classes rather than of rows: each makes its rows of dW once,
    so that only dH [N, D], the small one, is summed over tiles, in fp32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, backend: Backend
    ) -> Tensor:
        """8·N·V·D operations in all, 2·N·V·D of them here."""
        log_sum_exps, label_logits = backend.log_sum_exp(hidden, weight, bias, labels)
        ctx.save_for_backward(hidden, weight, bias, labels, log_sum_exps)
        ctx.backend = backend
        return torch.where(labels >= 0, log_sum_exps - label_logits, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scales: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that are asked for, each in its tensor's type; `scales` [N] fp32 arrives per row."""
        hidden, weight, bias, labels, log_sum_exps = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        column = scales[:, None]
        scaled, narrow_scales = (hidden * column).to(hidden.dtype), scales.to(hidden.dtype)
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32) if for_hidden else None
        d_weight = torch.empty_like(weight) if for_weight else None
        d_bias = torch.empty_like(bias) if for_bias else None
        for first, last in class_tiles(len(hidden), weight):
            gradient = ctx.backend.gradient_tile(hidden, weight, bias, labels, log_sum_exps, first, last)
            if d_hidden is not None:
                d_hidden += torch.mm(gradient, weight[first:last])
            if d_weight is not None:
                torch.mm(gradient.t(), scaled, out=d_weight[first:last])
            if d_bias is not None:
                d_bias[first:last] = torch.mm(narrow_scales[None], gradient)[0]
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(column).to(hidden.dtype)
        return d_hidden, d_weight, d_bias, None, None


def class_tiles(num_rows: int, weight: Tensor) -> list[tuple[int, int]]:
    """(first, last) of each tile of the V classes of weight [V, D].

    A tile of logits takes 16 MiB on a CPU, 64 MiB on a GPU, or as much as `hidden` where that is more.
    """
    num_classes, size = weight.shape
    width = max(_TILE_BYTES[weight.device.type] // (max(num_rows, 1) * weight.element_size()), size)
    width = -(-width // _CLASS_MULTIPLE) * _CLASS_MULTIPLE
    return [(first, min(first + width, num_classes)) for first in range(0, num_classes, width)]

"""Cross entropy of a linear layer without its logits in memory: a tile of classes at a time, twice."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from task_kernels.backend import Backend
from task_kernels.logits import class_tiles


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
        for first, gradient in class_tiles(hidden, weight):
            ctx.backend.gradient_tile_(hidden, weight, bias, labels, log_sum_exps, first, gradient)
            last = first + gradient.shape[1]
            if d_hidden is not None:
                d_hidden += torch.mm(gradient, weight[first:last])
            if d_weight is not None:
                torch.mm(gradient.t(), scaled, out=d_weight[first:last])
            if d_bias is not None:
                d_bias[first:last] = torch.mm(narrow_scales[None], gradient)[0]
        if d_hidden is not None:
            d_hidden = d_hidden.mul_(column).to(hidden.dtype)
        return d_hidden, d_weight, d_bias, None, None

"""Cross entropy of a linear layer with the logits in memory: three matrix products and one pass over them."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from task_kernels.backend import Backend
from task_kernels.logits import empty_logits


class FullCrossEntropy(Function):
    """losses [N] fp32 of hidden [N, D], weight [V, D], bias [V] or None, labels [N] int64.

    The forward pass turns the logits into G = softmax − onehot where they stand. What the backward pass
    knows late, the gradient s [N] that arrives per row, goes to the small operands, so that G [N, V] is
    read by matrix products only, stays as it is, and serves a second backward pass:

        dH = s ⊙ (G W)    dW = Gᵀ (s ⊙ H)    db = Gᵀ s
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, backend: Backend
    ) -> Tensor:
        """6·N·V·D operations in all, 2·N·V·D of them here."""
        logits = empty_logits(len(hidden), len(weight), hidden)
        torch.mm(hidden, weight.t(), out=logits)
        losses = backend.softmax_minus_onehot_(logits, bias, labels)
        ctx.save_for_backward(hidden, weight, bias, logits)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scales: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that are asked for, each in the type of its tensor; `scales` [N] fp32 is s."""
        hidden, weight, bias, gradient = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        column = scales[:, None]
        return (
            torch.mm(gradient, weight).mul_(column) if for_hidden else None,
            torch.mm(gradient.t(), (hidden * column).to(hidden.dtype)) if for_weight else None,
            torch.mm(scales.to(gradient.dtype)[None], gradient)[0].to(bias.dtype) if for_bias else None,
            None,
            None,
        )

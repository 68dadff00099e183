"""What torch runs on a GPU where it runs something else on a CPU, for simulations without a GPU."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class GpuOperations(TorchFunctionMode):
    """Attention and dropout by the operations that CUDA takes; they keep less for the backward pass.

    A CPU computes attention with dropout from whole score matrices [B, H, L, L], and keeps them; a GPU's
    memory-efficient kernel keeps one number a row and computes the scores again. A CPU keeps a dropout mask
    in the type of the activations, a GPU in one byte an element.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the two functions; everything else is as it was."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention [B, H, L, E] of query, key, value; a mask becomes a bias that is the same for all heads."""
    bias = None
    if attn_mask is not None:
        shape = (*query.shape[:3], key.shape[2])
        bias = torch.zeros_like(attn_mask, dtype=query.dtype).expand(shape)
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, dropout_p, is_causal, scale=scale
    )[0]


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input

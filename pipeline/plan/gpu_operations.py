"""What torch runs on a GPU where it runs something else on a CPU, for simulations without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional


@contextmanager
def gpu_operations() -> Iterator[None]:
    """Attention and dropout by the operations that CUDA takes; they keep less for the backward pass.

    A CPU computes attention with dropout from whole score matrices [B, H, L, L], and keeps them; a GPU's
    memory-efficient kernel keeps one number a row and computes the scores again. A CPU keeps a dropout mask
    in the type of the activations, a GPU in one byte an element.

    They are put in the place of torch's, since a backward pass leaves every mode of torch, also for the
    layers that it runs again.
    """
    before = functional.scaled_dot_product_attention, functional.dropout
    functional.scaled_dot_product_attention, functional.dropout = _attention, _dropout
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.dropout = before


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

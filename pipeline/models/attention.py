"""Attention over sequences that lie one after another, without padding between them.

What is computed per piece (embeddings, linear layers, norms) then runs on pieces alone; attention runs
within each sequence. transformers calls it by the name `UNPADDED`; where the model is given padded sequences
and a mask, as by anyone else who calls it, it is SDPA.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

UNPADDED = "unpadded"
_FLASH_TYPES = (torch.bfloat16, torch.float16)
_FLASH_CAPABILITY = (8, 0)
"""Of NVIDIA's Ampere."""


@dataclass(frozen=True)
class Pieces:
    """The P pieces of B sequences, one sequence after another. It stands where a mask would.

    `positions` [P] are their places in the padded [B·L], ascending; sequence b is pieces `bounds[b]` up to
    `bounds[b + 1]` ([B + 1] int32), and `longest` is L. A local layer looks `window` pieces far to either
    side. `with_flash` is whether FlashAttention computes it.
    """

    positions: Tensor
    bounds: Tensor
    longest: int
    window: int
    with_flash: bool

    @property
    def of_sequence(self) -> Tensor:
        """[P] the place of each piece in its sequence."""
        return self.positions % self.longest

    @functools.cached_property
    def groups(self) -> list[tuple[int, int]]:
        """Neighbouring sequences of equal length, as (number of sequences, pieces of each).

        For a GPU to tell them, it has to be waited for.
        """
        num_sequences = len(self.bounds) - 1
        if len(self.positions) == num_sequences * self.longest:  # tensors may have no values, as in a plan
            return [(num_sequences, self.longest)]
        lengths = self.bounds.diff().tolist()
        return [(len(list(equal)), length) for length, equal in itertools.groupby(lengths)]

    @functools.cached_property
    def near(self) -> Tensor:
        """[L, L] bool: pieces that see each other in a local layer."""
        places = torch.arange(self.longest, device=self.positions.device)
        return (places[:, None] - places).abs() <= self.window

    def places_of(self, padded_positions: Tensor) -> Tensor:
        """[N] where the pieces at places of the padded [B·L] are among the P."""
        return torch.searchsorted(self.positions, padded_positions)


def flash_attention_runs(device: torch.device, dtype: torch.dtype, head_size: int, dropout: float) -> bool:
    """Whether torch's FlashAttention for sequences of many lengths can be taken; it knows no dropout."""
    return (
        device.type == "cuda"
        and dtype in _FLASH_TYPES
        and head_size % 8 == 0
        and head_size <= 256
        and dropout == 0
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= _FLASH_CAPABILITY
    )


# A compiler would take the lengths of a batch's sequences for constants, and compile every batch anew.
@torch.compiler.disable
def unpadded_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Pieces | Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention [1, P, H, E] of query, key, value [1, H, P, E], each piece within its sequence.

    With a mask or None it is SDPA, of [B, H, L, E]. `sliding_window` is None in a global layer.
    """
    if not isinstance(attention_mask, Pieces):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    pieces, is_local = attention_mask, sliding_window is not None
    if pieces.with_flash:
        return _flash(query, key, value, pieces, is_local, scaling)[None], None
    return _sdpa(query, key, value, pieces, is_local, scaling, dropout)[None], None


def _flash(
    query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, is_local: bool, scaling: float
) -> Tensor:
    """[P, H, E] by one call for all sequences."""
    window = (pieces.window, pieces.window) if is_local else (-1, -1)
    query, key, value = (heads[0].transpose(0, 1) for heads in (query, key, value))
    bounds, longest = pieces.bounds, pieces.longest
    seen = varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=scaling, window_size=window)
    assert isinstance(seen, Tensor)  # alone, since nothing else is asked for
    return seen


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pieces: Pieces,
    is_local: bool,
    scaling: float,
    dropout: float,
) -> Tensor:
    """[P, H, E] by a call for each group of sequences."""
    sizes = [number * length for number, length in pieces.groups]
    by_group = zip(*(heads[0].split(sizes, dim=1) for heads in (query, key, value)), strict=True)
    parts = []
    for group, rows in zip(pieces.groups, by_group, strict=True):
        q, k, v = (heads.unflatten(1, group).transpose(0, 1) for heads in rows)
        length = group[1]
        reaches_all = not is_local or length <= pieces.window + 1
        mask = None if reaches_all else pieces.near[:length, :length]
        seen = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scaling)
        parts.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)


AttentionInterface.register(UNPADDED, unpadded_attention)
AttentionMaskInterface.register(UNPADDED, sdpa_mask)

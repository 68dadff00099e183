"""One tile of logits in fp32, as the kernels that keep no logits compute it.

Products of bf16 and fp16 run on tensor cores and are summed in fp32. Products of fp32 are true fp32, not
tf32: the reference is met to rounding, at the speed of the ordinary arithmetic units.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from task_kernels.triton_targets import INTERPRETED, Target


@dataclass(frozen=True)
class TileConfiguration:
    """A tile of logits is [rows, classes], made from `depth` of the D inputs at a time."""

    rows: int
    classes: int
    depth: int
    num_warps: int
    num_stages: int


def tile_configuration(dtype: torch.dtype, target: Target) -> TileConfiguration:
    """The configuration for operands of `dtype`.

    A tile of 128 × 128 is the largest that leaves registers for the softmax beside the sums: with 256 on one
    side, some of the GPUs spill. AMD's shared memory holds two stages of the pipeline. fp32 has no tensor
    cores to feed, and smaller tiles.
    """
    if dtype == torch.float32:
        return TileConfiguration(64, 64, 32, 4, 2)
    return TileConfiguration(128, 128, 64, 8, 2 if target.backend == "hip" else 3)


def tile_constants(tile: TileConfiguration, size: int, bias: Tensor | None) -> dict[str, int | bool]:
    """What the two kernels of logits are compiled for."""
    return {
        "HAS_BIAS": bias is not None,
        "WHOLE_DEPTH": size % tile.depth == 0,
        "UPCAST": INTERPRETED,
        "ROWS": tile.rows,
        "CLASSES": tile.classes,
        "DEPTH": tile.depth,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


@triton.jit
def tile_of_logits(
    hidden_rows,
    weight_rows,
    bias,
    classes,
    size,
    HAS_BIAS: tl.constexpr,
    WHOLE_DEPTH: tl.constexpr,
    UPCAST: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """[ROWS, CLASSES] fp32, from pointers to the rows of both operands."""
    if HAS_BIAS:
        logits = tl.broadcast_to(tl.load(bias + classes).to(tl.float32)[None, :], (ROWS, CLASSES))
    else:
        logits = tl.zeros((ROWS, CLASSES), tl.float32)
    inputs = tl.arange(0, DEPTH)
    for done in range(0, size, DEPTH):
        if WHOLE_DEPTH:
            a = tl.load(hidden_rows[:, None] + (done + inputs)[None, :])
            b = tl.load(weight_rows[:, None] + (done + inputs)[None, :])
        else:
            inside = (done + inputs < size)[None, :]
            a = tl.load(hidden_rows[:, None] + (done + inputs)[None, :], mask=inside, other=0.0)
            b = tl.load(weight_rows[:, None] + (done + inputs)[None, :], mask=inside, other=0.0)
        if UPCAST:  # the interpreter multiplies the bits of bf16 as if they were integers
            a, b = a.to(tl.float32), b.to(tl.float32)
        logits = tl.dot(a, b.T, logits, input_precision="ieee")
    return logits

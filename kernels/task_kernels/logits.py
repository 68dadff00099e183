"""Memory for a matrix of logits, whole or a tile at a time."""

import contextlib
import mmap
from collections.abc import Iterator

import torch
from torch import Tensor

_ROW_MULTIPLE = 16
_HUGE_PAGES_FROM_BYTES = 32 * 1024**2  # what is smaller comes from memory that was touched before
_TILE_BYTES = {"cpu": 16 * 1024**2, "cuda": 64 * 1024**2}
_TILE_MULTIPLE = 128


def empty_logits(num_rows: int, num_classes: int, like: Tensor) -> Tensor:
    """An uninitialised [num_rows, num_classes] matrix in the type and on the device of `like`.

    Its rows start at multiples of 16 elements: 128-bit accesses need that, and vocabulary sizes seldom
    allow it. Only in fp32 on a CPU do the matrix products prefer rows without gaps.
    """
    on_cpu = like.device.type == "cpu"
    multiple = 1 if on_cpu and like.dtype == torch.float32 else _ROW_MULTIPLE
    stride = -(-num_classes // multiple) * multiple
    num_bytes = num_rows * stride * like.element_size()
    if on_cpu and num_bytes >= _HUGE_PAGES_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        rows = _in_huge_pages(num_bytes, like.dtype).view(num_rows, stride)
    else:
        rows = like.new_empty(num_rows, stride)
        if on_cpu:  # oneDNN's bf16 product of an odd number of columns reads one more: a NaN there spreads
            rows[:, num_classes:] = 0
    return rows[:, :num_classes]


def class_tiles(hidden: Tensor, weight: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first class of each tile of V classes, and a matrix [N, v] for it, uninitialised.

    All tiles lie in the same memory: 16 MiB on a CPU, 64 MiB on a GPU, or as much as `hidden` [N, D] takes
    where that is more. `weight` is [V, D].
    """
    num_rows, (num_classes, size) = len(hidden), weight.shape
    width = max(_TILE_BYTES[hidden.device.type] // (max(num_rows, 1) * hidden.element_size()), size)
    width = max(1, min(-(-width // _TILE_MULTIPLE) * _TILE_MULTIPLE, num_classes))
    tile = empty_logits(num_rows, width, hidden)
    for first in range(0, num_classes, width):
        yield first, tile[:, : num_classes - first]


def _in_huge_pages(num_bytes: int, dtype: torch.dtype) -> Tensor:
    """A vector in fresh memory. Touching 4 KiB pages one by one takes longer than the softmax over them."""
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # of a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype)

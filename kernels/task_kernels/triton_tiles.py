"""Triton kernels that compute logits tile by tile and keep none: log-sum-exp, gradient of some classes."""

# mypy: allow-untyped-defs, allow-incomplete-defs

import torch
import triton
import triton.language as tl
from torch import Tensor

from task_kernels.triton_logits import tile_configuration, tile_constants, tile_of_logits
from task_kernels.triton_rows import LN_2, LOG2_E, finite, power_of_two
from task_kernels.triton_targets import num_processors, target_of

COMBINE_ROWS = 128


def log_sum_exp(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of each row of hidden · weightᵀ + bias, and the logit of its label.

    Args:
        hidden: [N, D] fp32, bf16 or fp16, rows contiguous. Where their stride is a multiple of 16, here and
            in `weight`, they are read 128 bits at a time.
        weight: [V, D] in the type of `hidden`, rows contiguous.
        bias: [V] or None; added in fp32.
        labels: [N] integers.

    Returns:
        log-sum-exps [N] and label logits [N], fp32. The logit of a negative label is 0, of one from V on NaN.
    """
    num_rows, size = hidden.shape
    assert hidden.stride(1) == 1 or size == 1, "rows of `hidden` must be contiguous"
    assert weight.stride(1) == 1 or size == 1, "rows of `weight` must be contiguous"
    log_sum_exps, label_logits = hidden.new_empty(2, num_rows, dtype=torch.float32)
    if num_rows == 0:
        return log_sum_exps, label_logits
    tile = tile_configuration(hidden.dtype, target_of(hidden.device))
    row_blocks = triton.cdiv(num_rows, tile.rows)
    tiles = triton.cdiv(len(weight), tile.classes)
    tiles_each = triton.cdiv(tiles, num_splits(row_blocks, tiles, num_processors(hidden.device)))
    splits = triton.cdiv(tiles, tiles_each)
    partials = hidden.new_empty(3, splits, num_rows, dtype=torch.float32)
    with torch.cuda.device_of(hidden):
        _partial_log_sum_exp[(row_blocks, splits)](
            hidden,
            weight,
            None if bias is None else bias.contiguous(),
            labels.contiguous(),
            partials,
            num_rows,
            len(weight),
            size,
            hidden.stride(0),
            weight.stride(0),
            tiles_each,
            **tile_constants(tile, size, bias),
        )
        _combine[(triton.cdiv(num_rows, COMBINE_ROWS),)](
            partials,
            log_sum_exps,
            label_logits,
            num_rows,
            splits * num_rows,
            splits,
            BLOCK=COMBINE_ROWS,
            num_warps=4,
        )
    return log_sum_exps, label_logits


def num_splits(row_blocks: int, tiles: int, processors: int) -> int:
    """Parts into which the classes are split, so that there are four programs for each processor."""
    return max(1, min(tiles, triton.cdiv(4 * processors, row_blocks)))


def gradient_tile_(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    log_sum_exps: Tensor,
    first: int,
    gradient: Tensor,
) -> None:
    """Columns of softmax − onehot, from logits that are computed again.

    Args:
        hidden: [N, D] fp32, bf16 or fp16, rows contiguous.
        weight: [V, D] in the type of `hidden`, rows contiguous.
        bias: [V] or None.
        labels: [N] integers.
        log_sum_exps: [N] fp32, from `log_sum_exp`.
        first: the class of the first column.
        gradient: [N, v] in the type of `hidden`, written; rows contiguous. Where their stride is a multiple
            of 16, so are the columns that are written. Rows with a negative label become 0.
    """
    (num_rows, size), num_classes = hidden.shape, gradient.shape[1]
    if num_rows == 0:
        return
    stride = gradient.stride(0)
    width = triton.cdiv(num_classes, 16) * 16 if stride % 16 == 0 and num_rows > 1 else num_classes
    tile = tile_configuration(hidden.dtype, target_of(hidden.device))
    last = first + num_classes
    with torch.cuda.device_of(hidden):
        _gradient_of_classes[(triton.cdiv(num_rows, tile.rows), triton.cdiv(num_classes, tile.classes))](
            hidden,
            weight[first:last],
            None if bias is None else bias[first:last].contiguous(),
            labels.contiguous(),
            log_sum_exps,
            gradient,
            num_rows,
            num_classes,
            width,
            size,
            hidden.stride(0),
            weight.stride(0),
            stride,
            first,
            **tile_constants(tile, size, bias),
        )


@triton.jit
def _partial_log_sum_exp(
    hidden,
    weight,
    bias,
    labels,
    partials,
    num_rows,
    num_classes,
    size,
    hidden_stride,
    weight_stride,
    tiles_each,
    HAS_BIAS: tl.constexpr,
    WHOLE_DEPTH: tl.constexpr,
    UPCAST: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A program has a block of rows and a split of the classes. Blocks that run together share their classes.

    Rows and classes beyond the last are the last again, which needs no mask; their results are not used.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    inside = rows < num_rows
    existing = tl.minimum(rows, num_rows - 1).to(tl.int64)
    hidden_rows = hidden + existing * hidden_stride
    label = tl.load(labels + existing)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    label_logit = tl.where(label < num_classes, 0.0, float("nan"))
    for tile in range(split * tiles_each, (split + 1) * tiles_each):
        classes = tile * CLASSES + tl.arange(0, CLASSES)
        last = tl.minimum(classes, num_classes - 1)
        weight_rows = weight + last.to(tl.int64) * weight_stride
        logits = tile_of_logits(
            hidden_rows,
            weight_rows,
            bias,
            last,
            size,
            HAS_BIAS,
            WHOLE_DEPTH,
            UPCAST,
            ROWS,
            CLASSES,
            DEPTH,
        )
        logits = tl.where((classes < num_classes)[None, :], logits, float("-inf"))
        label_logit += tl.sum(tl.where(classes[None, :] == label[:, None], logits, 0.0), axis=1)
        new_peak = tl.maximum(peak, tl.max(logits, axis=1) * LOG2_E)
        shift = finite(new_peak)
        total = total * tl.exp2(peak - shift) + tl.sum(power_of_two(logits, shift[:, None]), axis=1)
        peak = new_peak
    place = partials + split.to(tl.int64) * num_rows + rows
    plane = tl.num_programs(1).to(tl.int64) * num_rows
    tl.store(place, peak, mask=inside)
    tl.store(place + plane, total, mask=inside)
    tl.store(place + 2 * plane, label_logit, mask=inside)


@triton.jit
def _combine(partials, log_sum_exps, label_logits, num_rows, plane, splits, BLOCK: tl.constexpr):
    """Log-sum-exp of rows from those of their splits, always in the same order."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < num_rows
    place = partials + rows
    peak = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    label_logit = tl.zeros((BLOCK,), tl.float32)
    for _ in range(0, splits):
        own_peak = tl.load(place, mask=inside, other=0.0)
        own_total = tl.load(place + plane, mask=inside, other=1.0)
        label_logit += tl.load(place + 2 * plane, mask=inside, other=0.0)
        new_peak = tl.maximum(peak, own_peak)
        shift = finite(new_peak)
        total = total * tl.exp2(peak - shift) + own_total * tl.exp2(own_peak - shift)
        peak = new_peak
        place += num_rows
    tl.store(log_sum_exps + rows, (finite(peak) + tl.log2(total)) * LN_2, mask=inside)
    tl.store(label_logits + rows, label_logit, mask=inside)


@triton.jit
def _gradient_of_classes(
    hidden,
    weight,
    bias,
    labels,
    log_sum_exps,
    gradient,
    num_rows,
    num_classes,
    width,
    size,
    hidden_stride,
    weight_stride,
    stride,
    first,
    HAS_BIAS: tl.constexpr,
    WHOLE_DEPTH: tl.constexpr,
    UPCAST: tl.constexpr,
    ROWS: tl.constexpr,
    CLASSES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """A program makes a tile of the gradient; `weight`, `bias` and `gradient` begin at class `first`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    classes = tl.program_id(1) * CLASSES + tl.arange(0, CLASSES)
    existing = tl.minimum(rows, num_rows - 1).to(tl.int64)
    last = tl.minimum(classes, num_classes - 1)
    logits = tile_of_logits(
        hidden + existing * hidden_stride,
        weight + last.to(tl.int64) * weight_stride,
        bias,
        last,
        size,
        HAS_BIAS,
        WHOLE_DEPTH,
        UPCAST,
        ROWS,
        CLASSES,
        DEPTH,
    )
    label = tl.load(labels + existing)
    share = power_of_two(logits, (tl.load(log_sum_exps + existing) * LOG2_E)[:, None])
    here = classes[None, :] + first == label[:, None]
    share = tl.where((label >= 0)[:, None], tl.where(here, share - 1.0, share), 0.0)
    place = gradient + rows.to(tl.int64)[:, None] * stride + classes[None, :]
    tl.store(place, share, mask=(rows < num_rows)[:, None] & (classes < width)[None, :])

"""Triton kernels over rows of logits: losses and gradient in one visit, and sums per task.

Exponentials are taken to base 2, as the hardware has them: exp(x − m) = 2^(x·log₂e − m·log₂e), one fused
multiply-add. The rounding of m·log₂e is the same in every term and cancels in losses and probabilities.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from task_kernels.triton_targets import Target, target_of

MAX_CLASSES_ON_CHIP = 32_768
"""Up to here a row stays in registers, 32 classes a thread; 64 a thread would not fit in them."""

MIN_BLOCK = 4_096
LOOP_BLOCK = 16_384
SUM_BLOCK = 1_024

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@dataclass(frozen=True)
class RowConfiguration:
    """How a row is visited: in one block of registers, or in a loop over blocks."""

    on_chip: bool
    block: int
    num_warps: int


def row_configuration(num_classes: int, target: Target) -> RowConfiguration:
    """The configuration for rows of `num_classes`: 32 classes a thread on chip, 16 in the loop.

    A loop's block fills a multiprocessor, so that few rows are under way at a time and their second read
    finds them in the L2 cache.
    """
    if num_classes > MAX_CLASSES_ON_CHIP:
        return RowConfiguration(False, LOOP_BLOCK, LOOP_BLOCK // (16 * target.warp_size))
    block = max(MIN_BLOCK, triton.next_power_of_2(num_classes))
    # Four warps at least: a block-wide barrier must lie between the reading of a row and its overwriting.
    return RowConfiguration(True, block, max(4, block // (32 * target.warp_size)))


def softmax_minus_onehot_(logits: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """Cross entropy of each row; overwrites the logits with its gradient, softmax(logits + bias) − onehot.

    Args:
        logits: [N, V] fp32, bf16 or fp16, overwritten; rows contiguous. Where their stride is a multiple of
            16, they are read 128 bits at a time, and the columns from V to the next multiple of 16 belong
            to this function: what they hold is not used, not even a NaN, and is overwritten.
        bias: [V] or None; added in fp32.
        labels: [N] integers; a negative one makes loss and gradient of the row 0.

    Returns:
        losses [N] fp32, in nats. NaN where a logit is NaN or +∞, or all are −∞, or the label is V or more.
    """
    num_rows, num_classes = logits.shape
    assert logits.stride(1) == 1 or num_classes == 1, "rows of logits must be contiguous"
    losses = torch.empty(num_rows, dtype=torch.float32, device=logits.device)
    if num_rows == 0:
        return losses
    stride = logits.stride(0)
    width = triton.cdiv(num_classes, 16) * 16 if stride % 16 == 0 and num_rows > 1 else num_classes
    if bias is not None:
        bias = functional.pad(bias, (0, width - num_classes)).contiguous()
    configuration = row_configuration(num_classes, target_of(logits.device))
    kernel = _row_on_chip if configuration.on_chip else _row_in_loop
    with torch.cuda.device_of(logits):
        kernel[(num_rows,)](
            logits,
            bias,
            labels.contiguous(),
            losses,
            stride,
            num_classes,
            width,
            HAS_BIAS=bias is not None,
            BLOCK=configuration.block,
            num_warps=configuration.num_warps,
        )
    return losses


def task_sums(losses: Tensor, task_ids: Tensor, labels: Tensor, num_tasks: int) -> tuple[Tensor, Tensor]:
    """Losses summed per task, and rows counted. Two runs give identical bits: nothing is added atomically.

    Args:
        losses: [N] fp32.
        task_ids: [N] integers of any type; a row with another than 0 … T − 1 counts for no task.
        labels: [N] integers; a row with a negative one counts for no task, whatever its loss.
        num_tasks: T, at least 1.

    Returns:
        sums [T] fp32; counts [T] int64.
    """
    sums = torch.zeros(num_tasks, dtype=torch.float32, device=losses.device)
    counts = torch.zeros(num_tasks, dtype=torch.int64, device=losses.device)
    if len(losses):
        columns = (losses.contiguous(), task_ids.contiguous(), labels.contiguous())
        with torch.cuda.device_of(losses):
            _sums_of_a_task[(num_tasks,)](*columns, sums, counts, len(losses), BLOCK=SUM_BLOCK, num_warps=4)
    return sums, counts


@triton.jit
def power_of_two(x, peak):
    """2^(x·log₂e − peak), in one multiply-add and one exponential."""
    factor = tl.full(x.shape, LOG2_E, tl.float32)
    return tl.exp2(tl.fma(x, factor, tl.broadcast_to(-peak, x.shape)))


@triton.jit
def finite(peak):
    """The peak, or 0 before the first finite number: −∞ − (−∞) would be NaN."""
    return tl.where(peak == float("-inf"), 0.0, peak)


@triton.jit
def _row_on_chip(
    logits,
    bias,
    labels,
    losses,
    stride,
    num_classes,
    width,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program reads its row once, keeps it in registers, and writes it once."""
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * stride
    classes = tl.arange(0, BLOCK)
    owned = classes < width
    label = tl.load(labels + row)
    exists = label < num_classes
    if label < 0:
        tl.store(start + classes, tl.zeros((BLOCK,), tl.float32), mask=owned)
        tl.store(losses + row, 0.0)
    else:
        # The mask ends at a multiple of 16, which is what lets the compiler read 128 bits at a time.
        x = tl.load(start + classes, mask=owned, other=0.0, eviction_policy="evict_first").to(tl.float32)
        x_label = tl.load(start + label, mask=exists, other=float("nan")).to(tl.float32)
        if HAS_BIAS:
            x += tl.load(bias + classes, mask=owned, other=0.0, eviction_policy="evict_last").to(tl.float32)
            x_label += tl.load(bias + label, mask=exists, other=0.0).to(tl.float32)
        x = tl.where(classes < num_classes, x, float("-inf"))
        peak = tl.max(x, axis=0) * LOG2_E
        powers = power_of_two(x, peak)
        total = tl.sum(powers, axis=0)
        exponent = tl.fma(x_label, LOG2_E, -peak)
        tl.store(losses + row, (tl.log2(total) - exponent) * LN_2)
        tl.store(start + classes, powers * (1.0 / total), mask=owned)
        # One more store for the label is cheaper than a comparison in every class. It comes after that of
        # the thread which owns the class.
        tl.debug_barrier()
        tl.store(start + label, tl.exp2(exponent) / total - 1.0, mask=exists)


@triton.jit
def _row_in_loop(
    logits,
    bias,
    labels,
    losses,
    stride,
    num_classes,
    width,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program goes over its row twice: for peak and total, then backwards, from what is still cached."""
    row = tl.program_id(0).to(tl.int64)
    start = logits + row * stride
    label = tl.load(labels + row)
    exists = label < num_classes
    if label < 0:
        for first in range(0, width, BLOCK):
            classes = first + tl.arange(0, BLOCK)
            tl.store(start + classes, tl.zeros((BLOCK,), tl.float32), mask=classes < width)
        tl.store(losses + row, 0.0)
    else:
        x_label = tl.load(start + label, mask=exists, other=float("nan")).to(tl.float32)
        if HAS_BIAS:
            x_label += tl.load(bias + label, mask=exists, other=0.0).to(tl.float32)
        peak = float("-inf")
        totals = tl.zeros((BLOCK,), tl.float32)
        for first in range(0, width, BLOCK):
            classes = first + tl.arange(0, BLOCK)
            owned = classes < width
            x = tl.load(start + classes, mask=owned, other=0.0).to(tl.float32)
            if HAS_BIAS:
                x += tl.load(bias + classes, mask=owned, other=0.0).to(tl.float32)
            x = tl.where(classes < num_classes, x, float("-inf"))
            new_peak = tl.maximum(peak, tl.max(x, axis=0) * LOG2_E)
            shift = finite(new_peak)
            totals = totals * tl.exp2(peak - shift) + power_of_two(x, shift)
            peak = new_peak
        shift = finite(peak)
        total = tl.sum(totals, axis=0)
        exponent = tl.fma(x_label, LOG2_E, -shift)
        tl.store(losses + row, (tl.log2(total) - exponent) * LN_2)
        scale = 1.0 / total
        num_blocks = tl.cdiv(width, BLOCK)
        for step in range(0, num_blocks):
            classes = (num_blocks - 1 - step) * BLOCK + tl.arange(0, BLOCK)
            owned = classes < width
            x = tl.load(start + classes, mask=owned, other=0.0, eviction_policy="evict_first").to(tl.float32)
            if HAS_BIAS:
                x += tl.load(bias + classes, mask=owned, other=0.0).to(tl.float32)
            gradient = tl.where(classes < num_classes, power_of_two(x, shift) * scale, 0.0)
            tl.store(start + classes, gradient, mask=owned)
        tl.debug_barrier()
        tl.store(start + label, tl.exp2(exponent) / total - 1.0, mask=exists)


@triton.jit
def _sums_of_a_task(losses, task_ids, labels, sums, counts, num_rows, BLOCK: tl.constexpr):
    """A program adds up the rows of its task, in an order that depends on the number of rows only."""
    task = tl.program_id(0)
    totals = tl.zeros((BLOCK,), tl.float32)
    rows_counted = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, num_rows, BLOCK):
        rows = first + tl.arange(0, BLOCK)
        inside = rows < num_rows
        ids = tl.load(task_ids + rows, mask=inside, other=0).to(tl.int64)
        label = tl.load(labels + rows, mask=inside, other=-1)
        counted = (ids == task) & (label >= 0)
        loss = tl.load(losses + rows, mask=inside, other=0.0)
        totals += tl.where(counted, loss, 0.0)
        rows_counted += counted.to(tl.int32)
    tl.store(sums + task, tl.sum(totals, axis=0))
    tl.store(counts + task, tl.sum(rows_counted.to(tl.int64), axis=0))

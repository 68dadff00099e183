"""Cross entropy of a linear layer, summed per task, by the implementation that fits device and memory."""

import functools
import importlib
import logging
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function

from task_kernels.backend import Backend
from task_kernels.full import FullCrossEntropy
from task_kernels.operands import Operands, check_classes, checked_operands
from task_kernels.reference import reference_task_loss_sums
from task_kernels.tiled import TiledCrossEntropy

IGNORED_LABEL = -100
"""Rows with this label count for no task."""
MAX_LOGITS_BYTES = 2 * 1024**3
"""From this size of the logits on, `memory="auto"` does without them."""

Impl = Literal["auto", "reference", "cpu", "triton"]
Memory = Literal["auto", "full", "low"]

_MODULES = {"cpu": "cpu", "triton": "triton_backend"}
_LOG = logging.getLogger("task_kernels")


def task_loss_sums(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    task_ids: Tensor,
    num_tasks: int,
    *,
    impl: Impl = "auto",
    memory: Memory = "auto",
) -> tuple[Tensor, Tensor]:
    """Sum of −log softmax(hidden · weightᵀ + bias)[label] over the rows of each task.

    The sums are differentiable: the gradient of row i is scaled by the upstream gradient of its task, so
    any function of the task losses needs one backward pass. `triton` never waits for its GPU.

    Args:
        hidden: [N, D] inputs of the layer, floating point.
        weight: [V, D] its matrix, in the type of `hidden` (or cast to it by autocast).
        bias: [V] or None.
        labels: [N] integer classes; IGNORED_LABEL leaves a row out. Others that are no class are refused on
            CPUs; `triton` leaves out negative ones, and makes the loss of larger ones NaN.
        task_ids: [N] integers; a row whose id is not one of 0 … num_tasks − 1 is left out.
        num_tasks: T.
        impl: `reference` (plain torch), `cpu`, `triton` (NVIDIA and AMD GPUs); `auto` goes by the device.
        memory: `full` keeps the logits [N, V] (6·N·V·D operations); `low` never has them in memory and
            computes them twice (8·N·V·D); `auto` takes `low` from MAX_LOGITS_BYTES on.

    Returns:
        sums [T] fp32, in nats; counts [T] int64 of rows. Log-sum-exp and losses are fp32 whatever the type
        of `hidden`, since task weights are made from them. (`reference` computes fp64 input in fp64.)

    Raises:
        ValueError: shapes, types or devices that do not fit, or an implementation that cannot run here.
        RuntimeError: from a backward pass with `create_graph`: only `reference` has second derivatives.
    """
    operands = checked_operands(hidden, weight, bias, labels, task_ids)
    name = _checked_impl(impl, operands.hidden)
    if memory not in get_args(Memory):
        raise ValueError(f"memory {memory!r} is not one of {', '.join(get_args(Memory))}")
    with torch.autocast(hidden.device.type, enabled=False):
        if name == "reference":
            return reference_task_loss_sums(*operands, num_tasks, IGNORED_LABEL)
        return _sums_by(name, memory, operands, num_tasks)


def _sums_by(impl: str, memory: str, operands: Operands, num_tasks: int) -> tuple[Tensor, Tensor]:
    """The sums by an implementation of `Backend`."""
    hidden, weight, bias, labels, task_ids = operands
    counted = (labels != IGNORED_LABEL) & (task_ids >= 0) & (task_ids < num_tasks)
    if impl == "cpu":
        if not counted.all():
            hidden, labels, task_ids = hidden[counted], labels[counted], task_ids[counted]
        check_classes(labels, len(weight))
    else:  # only the GPU knows which rows are left out: there they pass through without effect
        labels = torch.where(counted, labels, IGNORED_LABEL)
    backend = _module(impl)
    cross_entropy = _cross_entropy(impl, memory, hidden, weight, bias)
    losses = cross_entropy.apply(hidden.contiguous(), weight.contiguous(), bias, labels, backend)
    return TaskSums.apply(losses, task_ids, labels, num_tasks, backend)


class TaskSums(Function):
    """Sums [T] and counts [T] of losses [N]; the gradient of a row is that of its task's sum."""

    @staticmethod
    def forward(
        ctx: Any, losses: Tensor, task_ids: Tensor, labels: Tensor, num_tasks: int, backend: Backend
    ) -> tuple[Tensor, Tensor]:
        """Deterministic."""
        sums, counts = backend.task_sums(losses, task_ids, labels, num_tasks)
        ctx.save_for_backward(task_ids, labels)
        ctx.mark_non_differentiable(counts)
        return sums, counts

    @staticmethod
    def backward(ctx: Any, d_sums: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d_sums [T] to the rows [N] of each task; 0 where a row counts for none."""
        if torch.is_grad_enabled():  # create_graph=True; what came out would silently be a constant
            raise RuntimeError("task_loss_sums has no second derivative but with impl='reference'")
        task_ids, labels = ctx.saved_tensors
        tasks = task_ids.clamp(0, len(d_sums) - 1)
        return torch.where(labels >= 0, d_sums[tasks], 0.0), None, None, None, None


def _checked_impl(impl: str, hidden: Tensor) -> str:
    """The implementation, chosen by the device if it is `auto`; raises ValueError where it cannot run."""
    device, has_triton = hidden.device.type, find_spec("triton") is not None
    if impl not in get_args(Impl):
        raise ValueError(f"impl {impl!r} is not one of {', '.join(get_args(Impl))}")
    if impl == "auto":
        by_device = {"cpu": "cpu", "cuda": "triton" if has_triton else "reference"}
        return "reference" if hidden.dtype == torch.float64 else by_device.get(device, "reference")
    if impl != "reference" and hidden.dtype == torch.float64:
        raise ValueError(f"impl {impl!r} does not compute in float64; use 'reference'")
    if impl == "cpu" and device != "cpu":
        raise ValueError(f"impl 'cpu' does not run on {hidden.device}")
    if impl == "triton" and not has_triton:
        raise ValueError("impl 'triton' needs the package triton, which is not installed")
    if impl == "triton" and device == "cpu" and not _module(impl).INTERPRETED:
        raise ValueError("impl 'triton' needs a GPU, or TRITON_INTERPRET=1 set before the start")
    return impl


@functools.cache
def _module(impl: str) -> Any:
    return importlib.import_module(f"task_kernels.{_MODULES[impl]}")


def _cross_entropy(
    impl: str, memory: str, hidden: Tensor, weight: Tensor, bias: Tensor | None
) -> type[Function]:
    operands = (hidden, weight) if bias is None else (hidden, weight, bias)
    if not (torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)):
        return TiledCrossEntropy
    if memory == "auto":
        num_bytes = len(hidden) * len(weight) * hidden.element_size()
        memory = "full" if num_bytes < MAX_LOGITS_BYTES else "low"
    _say_once(_module(impl).description(hidden.dtype), memory)
    return FullCrossEntropy if memory == "full" else TiledCrossEntropy


@functools.cache
def _say_once(description: str, memory: str) -> None:
    how = "the logits are kept for the backward pass"
    if memory == "low":
        how = "the logits are never in memory and computed twice"
    _LOG.info("loss kernel: %s, memory %s (%s)", description, memory, how)

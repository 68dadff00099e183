"""Cross entropy of a linear layer, summed per task, by the implementation that fits device and memory."""

import functools
import importlib
import logging
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from task_kernels.backend import Backend
from task_kernels.full import FullCrossEntropy
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
    any function of the task losses needs one backward pass. Nothing here waits for a GPU.

    Args:
        hidden: [N, D] inputs of the layer, floating point.
        weight: [V, D] its matrix, in the type of `hidden` (or cast to it by autocast).
        bias: [V] or None.
        labels: [N] integer classes; IGNORED_LABEL leaves a row out.
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
    """
    hidden, weight, bias = _autocast(hidden, weight, bias)
    _check(hidden, weight, bias, labels, task_ids)
    impl = _implementation(hidden) if impl == "auto" else impl
    with torch.autocast(hidden.device.type, enabled=False):
        if impl == "reference":
            return reference_task_loss_sums(hidden, weight, bias, labels, task_ids, num_tasks, IGNORED_LABEL)
        backend = _backend(impl, hidden)
        counted = (labels != IGNORED_LABEL) & (task_ids >= 0) & (task_ids < num_tasks)
        if hidden.device.type == "cpu":
            if not counted.all():
                hidden, labels, task_ids = hidden[counted], labels[counted], task_ids[counted]
            _check_classes(labels, len(weight))
        else:  # which rows are left out is known on the GPU alone: there they pass through without effect
            labels = torch.where(counted, labels, IGNORED_LABEL)
        cross_entropy = _cross_entropy(impl, memory, hidden, weight)
        losses = cross_entropy.apply(hidden.contiguous(), weight.contiguous(), bias, labels.long(), backend)
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
    @once_differentiable
    def backward(ctx: Any, d_sums: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """d_sums [T] to the rows [N] of each task; 0 where a row counts for none."""
        task_ids, labels = ctx.saved_tensors
        tasks = task_ids.long().clamp(0, len(d_sums) - 1)
        return torch.where(labels >= 0, d_sums[tasks], 0.0), None, None, None, None


def _autocast(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The operands in autocast's type where it is on, as for torch's own matrix products."""
    device = hidden.device.type
    if not torch.is_autocast_enabled(device):
        return hidden, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, task_ids: Tensor) -> None:
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} must be [N, D] and [V, D]"
        )
    expected = {"labels": (labels, len(hidden)), "task_ids": (task_ids, len(hidden))}
    if bias is not None:
        expected["bias"] = (bias, len(weight))
    for name, (vector, size) in expected.items():
        if vector.shape != (size,):
            raise ValueError(f"{name} must be [{size}], not {list(vector.shape)}")
    if hidden.dtype != weight.dtype:
        raise ValueError(f"hidden is {hidden.dtype}, weight {weight.dtype}; cast one, or use autocast")


def _check_classes(labels: Tensor, num_classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(f"label {int(wrong[0])} is not one of {num_classes} classes, nor {IGNORED_LABEL}")


def _implementation(hidden: Tensor) -> Impl:
    if hidden.dtype == torch.float64:
        return "reference"
    if hidden.device.type == "cpu":
        return "cpu"
    return "triton" if hidden.device.type == "cuda" and find_spec("triton") else "reference"


@functools.cache
def _module(impl: str) -> Any:
    return importlib.import_module(f"task_kernels.{_MODULES[impl]}")


def _backend(impl: str, hidden: Tensor) -> Backend:
    if impl not in get_args(Impl):
        raise ValueError(f"impl {impl!r} is not one of {', '.join(get_args(Impl))}")
    if hidden.dtype == torch.float64:
        raise ValueError(f"impl {impl!r} does not compute in float64; use 'reference'")
    if impl == "cpu" and hidden.device.type != "cpu":
        raise ValueError(f"impl 'cpu' does not run on {hidden.device}")
    if impl == "cpu":
        return _module(impl)
    if find_spec("triton") is None:
        raise ValueError("impl 'triton' needs the package triton, which is not installed")
    backend = _module(impl)
    if hidden.device.type == "cpu" and not backend.INTERPRETED:
        raise ValueError("impl 'triton' needs a GPU, or TRITON_INTERPRET=1 set before the start")
    return backend


def _cross_entropy(impl: str, memory: str, hidden: Tensor, weight: Tensor) -> type[Function]:
    if memory not in get_args(Memory):
        raise ValueError(f"memory {memory!r} is not one of {', '.join(get_args(Memory))}")
    if not torch.is_grad_enabled():
        return TiledCrossEntropy
    if memory == "auto":
        num_bytes = len(hidden) * len(weight) * hidden.element_size()
        memory = "full" if num_bytes < MAX_LOGITS_BYTES else "low"
    _say_once(impl, memory)
    return FullCrossEntropy if memory == "full" else TiledCrossEntropy


@functools.cache
def _say_once(impl: str, memory: str) -> None:
    how = "the logits are kept for the backward pass"
    if memory == "low":
        how = "the logits are never in memory and computed twice"
    _LOG.info("loss kernel: %s, memory %s (%s)", _module(impl).DESCRIPTION, memory, how)

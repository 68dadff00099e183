"""What `task_loss_sums` is given: checked, and in the types that implementations compute with."""

from typing import NamedTuple

import torch
from torch import Tensor

_NARROW = (torch.float32, torch.bfloat16, torch.float16)


class Operands(NamedTuple):
    """hidden [N, D], weight [V, D] of one type; bias [V] or None; labels, task_ids [N] contiguous int64."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    labels: Tensor
    task_ids: Tensor


def checked_operands(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, task_ids: Tensor
) -> Operands:
    """The operands of a call, in autocast's type where it is on, as for torch's own matrix products.

    Raises:
        ValueError: shapes, types or devices that do not fit; it names the operand.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype in _NARROW:
        dtype = torch.get_autocast_dtype(device)
        hidden, weight, bias = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    _check_shapes(hidden, weight, bias, labels, task_ids)
    _check_types(hidden, weight, bias, labels, task_ids)
    # int64 before anything is compared: 8 bits hold neither -100 nor most classes.
    return Operands(hidden, weight, bias, labels.long().contiguous(), task_ids.long().contiguous())


def check_classes(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError for a label [N] that is no class; it waits for the labels' device."""
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise ValueError(f"label {int(wrong[0])} is not one of {num_classes} classes")


def _check_shapes(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, task_ids: Tensor
) -> None:
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


def _check_types(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, task_ids: Tensor
) -> None:
    others = {"weight": weight, "bias": bias, "labels": labels, "task_ids": task_ids}
    for name, tensor in others.items():
        if tensor is not None and tensor.device != hidden.device:
            raise ValueError(f"{name} is on {tensor.device}, hidden on {hidden.device}")
    if hidden.dtype not in (*_NARROW, torch.float64):
        raise ValueError(f"hidden is {hidden.dtype}; it must be float32, bfloat16, float16 or float64")
    if hidden.dtype != weight.dtype:
        raise ValueError(f"hidden is {hidden.dtype}, weight {weight.dtype}; cast one, or use autocast")
    if bias is not None and not bias.is_floating_point():
        raise ValueError(f"bias is {bias.dtype}; it must be floating point")
    for name, tensor in (("labels", labels), ("task_ids", task_ids)):
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f"{name} is {tensor.dtype}; it must hold integers")

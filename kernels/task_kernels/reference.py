"""The slow, obvious twin of every implementation."""

import torch
from torch import Tensor
from torch.nn import functional


def reference_task_loss_sums(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    task_ids: Tensor,
    num_tasks: int,
    ignored_label: int,
) -> tuple[Tensor, Tensor]:
    """As `task_loss_sums`, in plain torch and fp32; in fp64, sums included, where `hidden` is fp64."""
    counted = (labels != ignored_label) & (task_ids >= 0) & (task_ids < num_tasks)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logits = functional.linear(
        hidden[counted].to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    )
    losses = functional.cross_entropy(logits, labels[counted], reduction="none")
    tasks = task_ids[counted]
    sums = torch.zeros(num_tasks, dtype=dtype, device=hidden.device).index_add(0, tasks, losses)
    return sums, torch.bincount(tasks, minlength=num_tasks)

"""Cross entropy of a linear head, summed per task."""

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100
"""Rows with this label count for no task."""


def task_loss_sums(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, task_ids: Tensor, num_tasks: int
) -> tuple[Tensor, Tensor]:
    """Sum of −log softmax(hidden · weightᵀ + bias)[label] over the rows of each task.

    The sums are differentiable: the gradient of row i is scaled by the upstream gradient of its task, so
    any function of the task losses needs one backward pass.

    Args:
        hidden: [N, D] inputs of the head.
        weight: [V, D] its matrix.
        bias: [V] or None.
        labels: [N] int64 classes; IGNORED_LABEL leaves a row out.
        task_ids: [N] integers; a row with `task_ids >= num_tasks` is left out.
        num_tasks: T.

    Returns:
        sums [T] fp32, in nats; counts [T] int64 of rows. The logits have the type of `hidden`, log-sum-exp
        and losses are computed in fp32.
    """
    kept = (labels != IGNORED_LABEL) & (task_ids < num_tasks)
    hidden, labels, tasks = hidden[kept], labels[kept], task_ids[kept].long()
    logits = functional.linear(hidden, weight, bias)
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    sums = losses.new_zeros(num_tasks).index_add(0, tasks, losses)
    return sums, torch.bincount(tasks, minlength=num_tasks)

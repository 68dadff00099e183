"""The backend for CPUs: rows by the compiled operator where it was built, by torch elsewhere."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from task_kernels import cpu_rows
from task_kernels.logits import class_tiles

_LOG = logging.getLogger("task_kernels")


def _load_operator() -> Any | None:
    """The operator of csrc/softmax_rows.cpp, or None where no compiler was there to build it."""
    for library in Path(__file__).parent.glob("_softmax_rows*.so"):
        try:
            torch.ops.load_library(library)
            return torch.ops.task_kernels
        except OSError as error:
            _LOG.warning("%s does not load (%s); using torch operations, which are slower", library, error)
    return None


OPERATOR = _load_operator()
_COMPILED_FOR = (torch.float32, torch.bfloat16)


def description(dtype: torch.dtype) -> str:
    """What computes the rows, for the log."""
    compiled = OPERATOR is not None and dtype in _COMPILED_FOR
    return "C++ operator on CPUs" if compiled else "torch operations on CPUs"


def softmax_minus_onehot_(logits: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """See `Backend`."""
    losses = logits.new_empty(len(logits), dtype=torch.float32)
    _rows(logits).softmax_minus_onehot_(logits, _fp32(bias), labels, losses)
    return losses


def log_sum_exp(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
    """See `Backend`."""
    peaks = hidden.new_full((len(hidden),), -torch.inf, dtype=torch.float32)
    sums, label_logits = torch.zeros_like(peaks), torch.zeros_like(peaks)
    for first, logits in class_tiles(hidden, weight):
        tile_bias = _multiply_(hidden, weight, bias, first, logits)
        _rows(logits).add_log_sum_exp_(logits, tile_bias, labels - first, peaks, sums, label_logits)
    return peaks + sums.log(), label_logits


def gradient_tile_(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    log_sum_exps: Tensor,
    first: int,
    gradient: Tensor,
) -> None:
    """See `Backend`."""
    tile_bias = _multiply_(hidden, weight, bias, first, gradient)
    _rows(gradient).gradient_(gradient, tile_bias, labels - first, log_sum_exps)


def task_sums(losses: Tensor, task_ids: Tensor, labels: Tensor, num_tasks: int) -> tuple[Tensor, Tensor]:
    """See `Backend`. Every row must count for a task."""
    sums = losses.new_zeros(num_tasks, dtype=torch.float64).index_add(0, task_ids, losses.double())
    return sums.float(), torch.bincount(task_ids, minlength=num_tasks)


def _rows(logits: Tensor) -> Any:
    return OPERATOR if OPERATOR is not None and logits.dtype in _COMPILED_FOR else cpu_rows


def _multiply_(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, first: int, logits: Tensor
) -> Tensor | None:
    """Write hidden · weightᵀ for the classes from `first` on to logits [N, v]; return their bias."""
    last = first + logits.shape[1]
    torch.mm(hidden, weight[first:last].t(), out=logits)
    return None if bias is None else _fp32(bias[first:last])


def _fp32(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.to(torch.float32).contiguous()

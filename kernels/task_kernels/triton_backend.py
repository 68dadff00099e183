"""The backend for NVIDIA and AMD GPUs."""

import torch

from task_kernels.triton_rows import softmax_minus_onehot_, task_sums
from task_kernels.triton_targets import INTERPRETED
from task_kernels.triton_tiles import gradient_tile_, log_sum_exp

__all__ = [
    "INTERPRETED",
    "description",
    "gradient_tile_",
    "log_sum_exp",
    "softmax_minus_onehot_",
    "task_sums",
]


def description(dtype: torch.dtype) -> str:
    """What computes the rows, for the log."""
    return "Triton's interpreter" if INTERPRETED else "Triton"

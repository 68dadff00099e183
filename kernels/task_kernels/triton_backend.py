"""The backend for NVIDIA and AMD GPUs."""

from task_kernels.triton_rows import softmax_minus_onehot_, task_sums
from task_kernels.triton_targets import INTERPRETED
from task_kernels.triton_tiles import gradient_tile_, log_sum_exp

DESCRIPTION = "Triton"

__all__ = [
    "DESCRIPTION",
    "INTERPRETED",
    "gradient_tile_",
    "log_sum_exp",
    "softmax_minus_onehot_",
    "task_sums",
]

"""Per-task losses in one pass over the vocabulary, and the weights made from them."""

from task_kernels.losses import IGNORED_LABEL, task_loss_sums
from task_kernels.weights import softmax_weights

__all__ = ["IGNORED_LABEL", "softmax_weights", "task_loss_sums"]

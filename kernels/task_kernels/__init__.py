"""Losses per task of a linear output layer, with their gradient, and the weights made from them."""

from task_kernels.losses import IGNORED_LABEL, Impl, Memory, task_loss_sums
from task_kernels.weights import softmax_weights

__all__ = ["IGNORED_LABEL", "Impl", "Memory", "softmax_weights", "task_loss_sums"]

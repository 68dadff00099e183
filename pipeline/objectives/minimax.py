"""The worst-case loss, by softmax-weighted gradient descent."""

from typing import ClassVar

from task_kernels import softmax_weights
from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class Minimax(Objective):
    """c_t = exp(α L_t) / Σ_s exp(α L_s), detached (arXiv 2306.12070, equation 7).

    Σ c_t ∇L_t is the gradient of (1/α) log mean_t exp(α L_t), which lies between the average (α → 0) and
    the largest task loss (α → ∞).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] softmax of α L over the valid tasks."""
        return softmax_weights(stats.losses, self._alpha, stats.valid)

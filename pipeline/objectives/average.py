"""The average risk."""

from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class Average(Objective):
    """c_t = 1/T: descends the average risk (1/T) Σ L_t (arXiv 2306.12070, equation 4)."""

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] 1 / (number of valid tasks)."""
        valid = stats.valid.to(stats.losses.dtype)
        return valid / valid.sum().clamp(min=1)

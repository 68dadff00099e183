"""The average risk."""

from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class Average(Objective):
    """c_t = 1/T: descends the average risk (1/T) Σ L_t (arXiv 2306.12070, equation 4).

    One pass, no state. It fails where tasks are unlike in size or difficulty: a task that is a thousandth of
    the text moves the parameters as much as one that is a third, with the noise of its few labels, and the
    hardest task has no more say than those that are learned already.
    """

    def reads_losses(self, step: int) -> bool:
        """Never."""
        return False

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] 1 / (number of valid tasks)."""
        valid = stats.valid.to(stats.losses.dtype)
        return valid / valid.sum().clamp(min=1)

"""Ordinary masked-language modelling."""

from torch import Tensor

from pipeline.objectives.interface import Objective, TaskStats


class TokenMean(Objective):
    """c_t = n_t / N with the labels of the step: descends the mean loss over all N labels.

    N counts the labels of no task, too, which it alone trains (masking.policy random). One pass, no state.
    Labels weigh alike, so tasks weigh as often as they occur: it fails a task that is rare, however hard.
    """

    def reads_losses(self, step: int) -> bool:
        """Never."""
        return False

    def trains_untasked(self, step: int) -> bool:
        """Always."""
        return True

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] shares of the step's labels; they and the share of the labels of no task sum to 1."""
        num_labels = stats.counts.sum() + stats.num_untasked
        return stats.counts.to(stats.losses.dtype) / num_labels.clamp(min=1)

"""What an objective sees and returns. It knows nothing of ranks, micro-batches or DeepSpeed."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

GRADIENTS = "gradients"


@dataclass(frozen=True)
class TaskStats:
    """Global task means and counts of a step, detached. A task that is absent now keeps its last known loss.

    Attributes:
        step: k, counted from 0.
        losses: [T] L_t in nats, float64; what stands where `valid` is false means nothing.
        counts: [T] n_t, labels in the whole step, whatever the losses are means over.
        valid: [T] bool, tasks that have been seen at least once.
        num_untasked: [] labels of the step that belong to no task.
        gradient_norms: [T] ‖∇L_t‖ at the weight of a layer that all tasks share, without coefficients,
            float64; 0 where the step did not train the task. None before the step, and if not in `needs`.
    """

    step: int
    losses: Tensor
    counts: Tensor
    valid: Tensor
    num_untasked: Tensor
    gradient_norms: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """[T] bool, tasks with a label in this step."""
        return self.counts > 0


class Objective(nn.Module, ABC):
    """The rule that turns task losses into coefficients c_t; the step descends Σ c_t ∇L_t.

    What it remembers are float64 buffers, which checkpoints hold. It has no parameters: what it learns, it
    learns from global means by gradients in closed form, with an optimizer of its own.
    """

    needs: frozenset[str] = frozenset()
    """What it asks for beyond losses and counts: `GRADIENTS`, the gradient norms that `after_step` sees."""

    @abstractmethod
    def reads_losses(self, step: int) -> bool:
        """Whether `coefficients` reads the losses of the step itself, and not only of those before."""

    @abstractmethod
    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] one coefficient per task, 0 where not valid."""

    def trains_untasked(self, step: int) -> bool:
        """Whether labels of no task are trained, too: with their share of the step's labels."""
        return False

    def after_step(self, stats: TaskStats) -> None:
        """See the global means of a finished step; for objectives that look back."""
        return

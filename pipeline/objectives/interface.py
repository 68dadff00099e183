"""What an objective sees and returns. It knows nothing of ranks, micro-batches or DeepSpeed."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor


@dataclass(frozen=True)
class TaskStats:
    """Global task means, detached. A task that is absent now keeps its last known loss.

    Attributes:
        losses: [T] L_t in nats; what stands where `valid` is false means nothing.
        valid: [T] bool, tasks that have been seen at least once.
        present: [T] bool, tasks with a label in this step.
    """

    losses: Tensor
    valid: Tensor
    present: Tensor


class Objective(ABC):
    """The rule that turns task losses into coefficients c_t; the step descends Σ c_t ∇L_t."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """What `coefficients` reads beyond which tasks there are: `losses`."""

    @abstractmethod
    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] one coefficient per task, 0 where not valid."""

    def after_step(self, losses: Tensor) -> None:
        """See the [T] global means of a finished step; for objectives that look back."""
        return

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        return

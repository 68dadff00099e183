"""How far a run is, by the last lines of its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NUM_LINES_OF_PACE = 10
"""Lines that the pace is taken from; validation and saving are not in their times."""


@dataclass(frozen=True)
class Progress:
    """Where a run of `num_steps` steps is; `recent` are its last lines of metrics, oldest first."""

    num_steps: int
    recent: Sequence[dict[str, Any]]

    @property
    def step(self) -> int:
        """Of the last line; 0 without one."""
        return self.recent[-1]["step"] if self.recent else 0

    @property
    def is_done(self) -> bool:
        """Whether it took its last step."""
        return self.step >= self.num_steps

    @property
    def step_s(self) -> float | None:
        """Seconds per step; None without a line."""
        if not self.recent:
            return None
        return sum(record["step_time_s"] for record in self.recent) / len(self.recent)

    @property
    def left_s(self) -> float | None:
        """Seconds to the last step at this pace; None without a line."""
        return None if self.step_s is None else (self.num_steps - self.step) * self.step_s

"""How far a run is, and how long the rest takes, by the last lines of its metrics."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import UserError
from pipeline.engine.run_folder import CONFIG, SLURM

_FEWEST_LINES, _MOST_LINES = 10, 1_000
"""Between which the pace is taken."""


@dataclass(frozen=True)
class Course:
    """What a run's config.yaml says of its length and of what comes up between its steps."""

    num_steps: int
    num_lines_of_pace: int
    """Lines of metrics between which validation and saving come up as often as in the run."""


def course_of(run_dir: Path) -> Course:
    """Read the course of a run; raises UserError where the folder is none of a run."""
    config = run_dir / CONFIG
    if not config.is_file() and (run_dir / SLURM).is_dir():
        raise UserError(f"{run_dir}: the run has not begun; see `pipeline status {run_dir}`")
    if not config.is_file():
        raise UserError(f"{run_dir}: no {CONFIG}; give the folder of a run, OUT_DIR/NAME")
    try:
        settings = yaml.safe_load(config.read_text())
        num_steps, log_every, *others = (
            int(settings["steps"]),
            *(int(settings[section]["every"]) for section in ("log", "validate", "checkpoint")),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{config}: not as a run writes it; give the folder of a run, OUT_DIR/NAME"
        ) from error
    return Course(num_steps, _num_lines_of_pace(log_every, max(others)))


def _num_lines_of_pace(log_every: int, others_every: int) -> int:
    """Lines that span whole periods of what comes up every so many steps; 0 is never."""
    period = max(others_every, log_every)
    num_periods = math.ceil(_FEWEST_LINES * log_every / period)
    return min(math.ceil(num_periods * period / log_every), _MOST_LINES) + 1


@dataclass(frozen=True)
class Progress:
    """Where a run is on its course; `recent` are its last lines of metrics, oldest first."""

    course: Course
    recent: Sequence[dict[str, Any]]

    @property
    def num_steps(self) -> int:
        """All that the run is to take."""
        return self.course.num_steps

    @property
    def step(self) -> int:
        """Of the last line; 0 without one."""
        return self.recent[-1]["step"] if self.recent else 0

    @property
    def is_done(self) -> bool:
        """Whether it took its last step."""
        return self.step >= self.num_steps

    @property
    def age_s(self) -> float | None:
        """Seconds since the last line; None without one."""
        return time.time() - self.recent[-1]["time"] if self.recent else None

    @property
    def step_s(self) -> float | None:
        """Seconds per step by the clock, with validation and saving, over the lines of the present attempt.

        The time between two attempts is no step's. Where a line stands alone it is the time of its steps.
        None without a line.
        """
        if not self.recent:
            return None
        last = self.recent[-1]
        first = next(record for record in self.recent if record["began"] == last["began"])
        num_steps, seconds = last["step"] - first["step"], last["time"] - first["time"]
        return seconds / num_steps if num_steps > 0 and seconds > 0 else last["step_time_s"]

    @property
    def left_s(self) -> float | None:
        """Seconds to the last step at this pace; None without a line."""
        return None if self.step_s is None else (self.num_steps - self.step) * self.step_s

"""The attempts of SLURM's jobs at a run, kept below its folder: where each began, and how it ended."""

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.engine.records import FAILURES, METRICS, Records, newest_records
from pipeline.engine.run_folder import SLURM, complete_checkpoints, step_of
from pipeline.engine.stop import STOPPED

ATTEMPTS = "attempts.jsonl"
LOG = "log"


@dataclass(frozen=True)
class Attempt:
    """One start of a job. `restart` counts SLURM's restarts of it; times are in seconds since 1970.

    `saved_step` is the newest checkpoint's. What is None is not known: the job has not ended, or was cut off
    before it could say. What such a job saved shows in the checkpoints.
    """

    job: str
    restart: int
    nodes: str
    """As SLURM writes a list of nodes: node[1-3,7]."""
    began: float
    saved_step_before: int
    ended: float | None = None
    exit_code: int | None = None
    saved_step: int | None = None
    logged_step: int | None = None
    """The last one in metrics.jsonl."""
    failed_step: int | None = None
    """Where ranks were lost, the step that they were in; else the one after the last in the log."""
    lost_hosts: tuple[str, ...] = ()

    @property
    def is_failure(self) -> bool:
        """Whether it ended with neither success nor a stop that it was told."""
        return self.exit_code not in (None, 0, STOPPED)

    @property
    def is_cut_off(self) -> bool:
        """Whether it never came to say how it ended, as when its first node fails."""
        return self.ended is None

    @property
    def saved_nothing(self) -> bool:
        """Whether it left no newer checkpoint than it found."""
        return (self.saved_step or 0) <= self.saved_step_before


class AttemptLog:
    """The attempts at a run, oldest first.

    Args:
        run_dir: the run's folder, which need not exist.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._path = run_dir / SLURM / ATTEMPTS

    @property
    def attempts(self) -> list[Attempt]:
        """All, the running one last. What those that were cut off saved is what the next ones found."""
        latest: dict[tuple[str, int], Attempt] = {}
        for record in _records(self._path):
            record["lost_hosts"] = tuple(record["lost_hosts"])
            attempt = Attempt(**record)
            latest[attempt.job, attempt.restart] = attempt
        attempts = list(latest.values())
        left = [*(attempt.saved_step_before for attempt in attempts[1:]), self.newest_saved_step()]
        return [
            replace(attempt, saved_step=step) if attempt.is_cut_off else attempt
            for attempt, step in zip(attempts, left, strict=False)
        ]

    def begin(self, nodes: str) -> Attempt:
        """Write down that this job starts."""
        attempt = Attempt(*_this_job(), nodes, began=time.time(), saved_step_before=self.newest_saved_step())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._append(attempt)
        return attempt

    def end(self, exit_code: int) -> Attempt:
        """Write down that the ranks of this job ended, with what they left."""
        job, restart = _this_job()
        attempt = next(a for a in self.attempts if (a.job, a.restart) == (job, restart))
        lost = self._lost_since(attempt.began)
        logged_step = self._last_logged_step()
        # Ranks that end since another one is lost are told to stop as well.
        failed = bool(lost) and exit_code == STOPPED
        attempt = replace(
            attempt,
            ended=time.time(),
            exit_code=1 if failed else exit_code,
            saved_step=self.newest_saved_step(),
            logged_step=logged_step,
            failed_step=max((rank["step"] for rank in lost.values()), default=logged_step + 1),
            lost_hosts=tuple(sorted({rank["host"] for rank in lost.values()})),
        )
        self._append(attempt)
        return attempt

    def newest_saved_step(self) -> int:
        """The step of the newest complete checkpoint; 0 without one."""
        checkpoints = complete_checkpoints(self._run_dir)
        return step_of(checkpoints[-1]) if checkpoints else 0

    def _lost_since(self, began: float) -> dict[int, dict[str, Any]]:
        """The ranks that others did not find, by rank; what such a rank itself says is ignored."""
        lost: dict[int, dict[str, Any]] = {}
        for loss in sorted(_records(self._run_dir / FAILURES), key=lambda loss: loss["time"]):
            if loss["time"] >= began and loss["rank"] not in lost:
                lost |= {rank["rank"]: rank for rank in loss["lost"]}
        return lost

    def _last_logged_step(self) -> int:
        return next((record["step"] for record in newest_records(self._run_dir / METRICS, 1)), 0)

    def _append(self, attempt: Attempt) -> None:
        Records(self._path).append(asdict(attempt))


def _this_job() -> tuple[str, int]:
    return os.environ["SLURM_JOB_ID"], int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def _records(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for line in lines:
        # Ranks that notice a loss together write at once, which not every file system keeps apart.
        with suppress(ValueError):
            yield json.loads(line)

"""Training and scoring in processes of their own, several at once; what fails does not stop the others."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from data_prep.durable import write_durably
from pipeline.engine.records import METRICS, newest_records
from pipeline.engine.stop import STOPPED
from pipeline.study.identity import digest, identity_of, write_identity
from pipeline.study.result import ScoreSettings
from pipeline.study.runs import ArmRun, Run, Trunk

_POLL_S = 0.1
_SECONDS_TO_SAVE = 120
"""That a run has to save its state once it is told to stop."""
_LINES_SHOWN = 12
_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""
_OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID")
"""Variables by which a process takes itself for one of several ranks."""


@dataclass
class _Active:
    """A run under way: its process, and the commands that come after it."""

    run: Run
    process: subprocess.Popen[bytes]
    left: list[list[str]]
    bar: TaskID
    begun: float


class Workers:
    """Carries out runs, `num_jobs` at a time, a trunk before what goes on from it."""

    def __init__(self, settings: ScoreSettings, num_jobs: int) -> None:
        self._settings = settings
        self._num_jobs = num_jobs
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        shown = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        self._progress = Progress(
            *shown, TimeElapsedColumn(), console=self._console, disable=not self._console.is_terminal
        )
        self._active: list[_Active] = []
        self._failed: list[Run] = []

    def carry_out(self, runs: list[ArmRun]) -> list[Run]:
        """Train and score all of them.

        Returns:
            Those that failed, and those whose trunk did.

        Raises:
            SystemExit: with STOPPED, once a run has stopped as it was told.
        """
        trunks = {run.trunk.folder: run.trunk for run in runs if run.trunk and not run.trunk.is_trained}
        waiting: list[Run] = [*trunks.values(), *runs]
        num_runs = len(waiting)
        whole = self._progress.add_task("study", total=num_runs)
        with self._progress, self._no_process_left():
            while waiting or self._active:
                waiting = self._start_what_can(waiting)
                time.sleep(_POLL_S)
                self._active = [active for active in self._active if self._goes_on(active)]
                self._progress.update(whole, completed=num_runs - len(waiting) - len(self._active))
        return self._failed

    def _start_what_can(self, waiting: list[Run]) -> list[Run]:
        """Start runs that need nothing which is not there; those that still wait."""
        still_waiting = []
        for run in waiting:
            trunk = run.trunk if isinstance(run, ArmRun) else None
            if trunk and any(failed.folder == trunk.folder for failed in self._failed):
                self._console.print(f"{run.title}: left out, since {trunk.title} failed")
                self._failed.append(run)
            elif len(self._active) < self._num_jobs and (trunk is None or trunk.is_trained):
                self._start(run)
            else:
                still_waiting.append(run)
        return still_waiting

    def _start(self, run: Run) -> None:
        write_identity(run)
        write_durably(run.run_file, run.config.to_yaml())
        first, *left = self._commands(run)
        bar = self._progress.add_task(run.title, total=run.config.steps)
        self._active.append(_Active(run, _process(first, run.log), left, bar, time.monotonic()))

    def _commands(self, run: Run) -> list[list[str]]:
        """What is left to do for a run."""
        commands = [] if run.is_trained else [["pipeline", "pretrain", str(run.run_file)]]
        if not isinstance(run, Trunk):
            settings = self._settings.model_dump_json()
            commands.append(["pipeline.study.scoring", str(run.folder), digest(identity_of(run)), settings])
        return commands

    def _goes_on(self, active: _Active) -> bool:
        """Whether something is left to do once its process has ended, or that has not."""
        code = active.process.poll()
        if code is None:
            newest = newest_records(active.run.folder / METRICS, 1)
            self._progress.update(active.bar, completed=newest[0]["step"] if newest else 0)
            return True
        if code == 0 and active.left:
            active.process = _process(active.left.pop(0), active.run.log)
            return True
        self._progress.remove_task(active.bar)
        if code == STOPPED:  # by the end of the job's time: the others are at theirs, too
            self._console.print(f"{active.run.title}: told to stop; the same command goes on from there")
            raise SystemExit(STOPPED)
        if code == 0:
            self._console.print(f"{active.run.title}: done in {time.monotonic() - active.begun:,.0f} s")
        else:
            self._failed.append(active.run)
            self._console.print(f"{active.run.title}: exit code {code}; {active.run.log} ends with")
            for line in _last_lines(active.run.log):
                self._console.print(f"    {line}", markup=False)
        return False

    @contextmanager
    def _no_process_left(self) -> Iterator[None]:
        """Tell all processes to stop when the block is left early, and let them save."""
        try:
            yield
        finally:
            if self._active:
                number = len(self._active)
                what = "1 run saves its state" if number == 1 else f"{number} runs save their state"
                self._console.print(f"stopping: {what}; Ctrl-C again to stop at once")
            for active in self._active:
                active.process.terminate()
            last_moment = time.monotonic() + _SECONDS_TO_SAVE
            for active in self._active:
                try:
                    active.process.wait(max(0.0, last_moment - time.monotonic()))
                except subprocess.TimeoutExpired:
                    active.process.kill()
                    active.process.wait()


def _process(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A Python module that runs alone, on one core, and adds to a log."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_LAUNCHER}
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - no shell; the command is ours
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**environment, "OMP_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C reaches the study alone, which tells its runs
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """A study that is killed leaves no run behind, which would go on while the study is started again."""
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _last_lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").replace("\r", "\n").rstrip().splitlines()[-_LINES_SHOWN:]

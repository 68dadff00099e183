"""`pipeline status`: what SLURM says of runs, beside what the runs say of themselves."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep.errors import UserError
from pipeline.amounts import clock
from pipeline.engine.records import METRICS, NONFINITE, VALIDATION, WARNINGS, newest_records
from pipeline.engine.run_folder import CONFIG, SLURM, complete_checkpoints, step_of
from pipeline.facts import facts_table
from pipeline.progress import Progress, course_of
from pipeline.slurm.attempts import LOG, Attempt, AttemptLog
from pipeline.slurm.queue import Job, NoSlurmError, has_failed, num_restarts, own_jobs
from pipeline.slurm.run_jobs import current_job, jobs_of
from pipeline.tail import warning_line

_RUNS = Path("runs")
_LATELY_DAYS = 3
"""A weekend."""


@dataclass(frozen=True)
class RunStatus:
    """A run, by its folder and by SLURM's queue."""

    run_dir: Path
    progress: Progress | None
    """None before its first start."""
    job: Job | None
    """The present one, or the last that SLURM remembers."""
    knows_jobs: bool
    """Whether SLURM answered."""
    attempts: Sequence[Attempt]
    validation: dict[str, Any] | None
    """The last line."""
    warning: str | None
    """The last one."""
    checkpoint: Path | None
    """The newest."""

    @property
    def state(self) -> str:
        """In one or two words."""
        if self.job and self.job.is_live:
            return self.job.state.lower()
        if self.progress and self.progress.is_done:
            return "done"
        if self.job:
            return self.job.state.lower()
        return "no job" if self.knows_jobs else "unknown"

    @property
    def worst(self) -> tuple[str, float] | None:
        """The worst task by held-out loss, never by the loss of a batch, and that loss."""
        if self.validation is None or self.validation["worst_task"] is None:
            return None
        return self.validation["worst_task"], self.validation["worst_loss"]

    @property
    def is_out_of_time(self) -> bool:
        """Whether SLURM killed it at its time limit, and nobody has started it again."""
        return self.state == "timeout"


def print_status(run_dirs: Sequence[Path], console: Console) -> None:
    """Print one run in full, several in a row each; without any those that are of interest now.

    Raises:
        UserError: a folder is none of a run, nor of a job that waits.
    """
    jobs, no_slurm = _jobs()
    found = run_dirs or _runs_of_interest(jobs)
    statuses = [_status(run_dir, jobs, knows_jobs=no_slurm is None) for run_dir in found]
    if not statuses:
        console.print(f"No run below {_RUNS}/ has a job, or was written to in the last {_LATELY_DAYS} days.")
    elif len(run_dirs) == 1:
        console.print(facts_table(_facts(statuses[0])))
    else:
        console.print(_rows(statuses))
    if no_slurm:
        console.print(f"Of jobs nothing is known here: {no_slurm}", markup=False, highlight=False)


def _jobs() -> tuple[list[Job], NoSlurmError | None]:
    try:
        return own_jobs(), None
    except NoSlurmError as error:
        return [], error


def _runs_of_interest(jobs: Sequence[Job]) -> list[Path]:
    """Runs below runs/ that were written to lately, and all that have a job, wherever they are."""
    since = time.time() - _LATELY_DAYS * 24 * 3600
    folders = [*_RUNS.glob("*/"), *_RUNS.glob("*/*/")]
    written = {folder.resolve() for folder in folders if _is_run_since(folder, since)}
    of_jobs = {Path(job.comment) for job in jobs if job.is_live and _names_run(job.comment)}
    here = Path.cwd()
    return [run.relative_to(here) if run.is_relative_to(here) else run for run in sorted(written | of_jobs)]


def _is_run_since(folder: Path, since: float) -> bool:
    """Whether a run was written to, or only its log, since it failed before it began.

    Other programs, too, write a config.yaml, and other users theirs.
    """
    try:
        if (folder / CONFIG).is_file():
            course_of(folder)
        files = (folder / name for name in (CONFIG, METRICS, f"{SLURM}/{LOG}"))
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0) > since
    except (UserError, OSError):
        return False


def _names_run(comment: str) -> bool:
    """Whether a job's comment is the folder of a run; it may be any text, longer than a path can be."""
    try:
        return Path(comment).is_absolute() and (Path(comment) / SLURM).is_dir()
    except OSError:
        return False


def _status(run_dir: Path, jobs: Sequence[Job], *, knows_jobs: bool) -> RunStatus:
    job = current_job(jobs_of(run_dir, jobs))
    has_begun = (run_dir / CONFIG).is_file()
    is_awaited = job is not None or (run_dir / SLURM).is_dir()
    course = course_of(run_dir) if has_begun or not is_awaited else None
    warnings = [record for name in (WARNINGS, NONFINITE) for record in newest_records(run_dir / name, 1)]
    last_warning = max(warnings, key=lambda record: record["step"], default=None)
    return RunStatus(
        run_dir=run_dir,
        progress=Progress(course, newest_records(run_dir / METRICS, course.num_lines_of_pace))
        if course
        else None,
        job=job,
        knows_jobs=knows_jobs,
        attempts=AttemptLog(run_dir).attempts,
        validation=next(iter(newest_records(run_dir / VALIDATION, 1)), None),
        warning=warning_line(last_warning) if last_warning else None,
        checkpoint=next(reversed(complete_checkpoints(run_dir)), None),
    )


def _facts(status: RunStatus) -> dict[str, str]:
    """What there is to say of one run."""
    facts = {"run": str(status.run_dir), "state": _state(status)}
    if status.job and status.job.nodes:
        facts["nodes"] = status.job.nodes
    elif status.attempts:
        facts["nodes"] = f"{status.attempts[-1].nodes}, last"
    if status.is_out_of_time:
        facts["to do"] = (
            "killed before it had saved: more seconds in --signal of slurm/pretrain.sh; "
            "`pipeline submit` goes on from the newest checkpoint"
        )
    if restarts := _restarts(status):
        facts["restarts"] = restarts
    if status.progress is None:
        return {**facts, "step": "none yet"} | _log(status)
    facts["step"] = _step(status.progress)
    if time_left := _time_left(status):
        facts["time left"] = time_left
    facts["worst task"] = _worst(status)
    if status.checkpoint:
        age = _ago(time.time() - status.checkpoint.stat().st_mtime)
        facts["checkpoint"] = f"step {step_of(status.checkpoint):,}, {age}"
    else:
        facts["checkpoint"] = "none yet"
    if status.warning:
        facts["warning"] = status.warning
    return facts | _log(status)


def _log(status: RunStatus) -> dict[str, str]:
    """Where to look for why it ended, where it did not end well."""
    log = status.run_dir / SLURM / LOG
    has_job_failed = status.job is not None and has_failed(status.job.state)
    has_run_failed = status.job is None and bool(status.attempts) and status.attempts[-1].is_failure
    return {"log": str(log)} if (has_job_failed or has_run_failed) and log.is_file() else {}


def _state(status: RunStatus) -> str:
    job = status.job
    if job is None:
        return status.state
    state = f"{status.state}, job {job.id}"
    if job.state == "PENDING":
        start = f", expected to start {job.start:%Y-%m-%d %H:%M}" if job.start else ""
        return f"{state}: {job.reason or 'no reason given'}{start}"
    if not job.is_live and job.reason:
        return f"{state} ({job.state}: {job.reason})"
    return state


def _restarts(status: RunStatus) -> str | None:
    """How often SLURM started the job again, by itself or by what the run wrote down."""
    job = status.job.id if status.job else None
    number = num_restarts(job) if job else None
    if number is None and status.attempts:
        number = status.attempts[-1].restart
    return None if number is None else str(number)


def _step(progress: Progress) -> str:
    step = f"{progress.step:,} of {progress.num_steps:,} ({progress.step / progress.num_steps:.0%})"
    if progress.age_s is None:
        return step
    return f"{step}, {progress.recent[-1]['tokens_per_s']:,.0f} tokens/s; last line {_ago(progress.age_s)}"


def _time_left(status: RunStatus) -> str | None:
    """Of the training beside the job's; None where the one or the other does not go on."""
    progress, job = status.progress, status.job
    if progress is None or progress.left_s is None or progress.is_done:
        return None
    training = f"{clock(progress.left_s)} of training"
    if job is None or job.left_s is None or job.state != "RUNNING":
        return training
    both = f"{training}, {clock(job.left_s)} of the job"
    if progress.left_s <= job.left_s or not job.limit_s:
        return both
    more = math.ceil((progress.left_s - job.left_s) / job.limit_s)
    return f"{both}, then {more:,} more of {clock(job.limit_s)}"


def _worst(status: RunStatus) -> str:
    if status.worst is None or status.validation is None:
        return "none yet: no held-out losses"
    task, loss = status.worst
    return f"{task} {loss:.3f} held-out, at step {status.validation['step']:,}"


def _rows(statuses: Sequence[RunStatus]) -> Table:
    """A row per run, within 80 columns where names are short."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    for name in ("state", "step", "tokens/s", "worst held-out", "left"):
        table.add_column(
            name, justify="right" if name in ("step", "tokens/s", "left") else "left", no_wrap=True
        )
    for status in statuses:
        progress = status.progress
        last = progress.recent[-1] if progress and progress.recent else None
        left = progress.left_s if progress and not progress.is_done else None
        table.add_row(
            Text(str(status.run_dir)),
            status.state,
            f"{progress.step:,} ({progress.step / progress.num_steps:.0%})" if progress else "",
            f"{last['tokens_per_s']:,.0f}" if last else "",
            Text("{} {:.2f}".format(*status.worst) if status.worst else ""),
            clock(left) if left is not None else "",
        )
    return table


def _ago(seconds: float) -> str:
    return f"{clock(seconds)} ago"

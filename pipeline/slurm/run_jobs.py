"""Which jobs are a run's."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.slurm.attempts import AttemptLog
from pipeline.slurm.queue import Job


def comment_of(run_dir: Path) -> str:
    """What `pipeline submit` gives the jobs of a run as their comment, which names its folder."""
    return str(run_dir.resolve())


def jobs_of(run_dir: Path, jobs: Sequence[Job]) -> list[Job]:
    """Those of a run: by their comment, or where sbatch was called by hand, by what they wrote down there."""
    comment = comment_of(run_dir)
    started = {attempt.job for attempt in AttemptLog(run_dir).attempts}
    return [job for job in jobs if job.comment == comment or (not job.comment and job.id in started)]


def current_job(jobs: Sequence[Job]) -> Job | None:
    """Of a run's jobs the one that runs, else the one that waits, else the last."""
    live = [job for job in jobs if job.is_live]
    running = [job for job in live if job.state != "PENDING"]
    return next(iter(running or live), jobs[-1] if jobs else None)

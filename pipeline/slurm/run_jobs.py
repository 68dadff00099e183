"""Which jobs are a run's."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import UserError
from pipeline.slurm.attempts import AttemptLog
from pipeline.slurm.queue import Job


def comment_of(run_dir: Path) -> str:
    """What `pipeline submit` gives the jobs of a run as their comment, which names its folder.

    Raises:
        UserError: the folder's name has characters that break squeue's lines.
    """
    comment = str(run_dir.resolve())
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in comment):
        raise UserError(f"out_dir: {comment!r} has line breaks or the like; give another folder")
    return comment


def jobs_of(run_dir: Path, jobs: Sequence[Job]) -> list[Job]:
    """Those of a run: by their comment, or where that is another's, by what they wrote down there.

    It is where sbatch was called by hand, and on clusters that write comments of their own. One that names
    another run stands: numbers of jobs begin anew when SLURM is installed anew.
    """
    comment = comment_of(run_dir)
    started = {attempt.job for attempt in AttemptLog(run_dir).attempts}
    return [
        job
        for job in jobs
        if job.comment == comment or (job.id in started and not Path(job.comment).is_absolute())
    ]


def current_job(jobs: Sequence[Job]) -> Job | None:
    """Of a run's jobs the one that runs, else the one that waits, else the last."""
    live = [job for job in jobs if job.is_live]
    running = [job for job in live if job.state != "PENDING"]
    return next(iter(running or live), jobs[-1] if jobs else None)

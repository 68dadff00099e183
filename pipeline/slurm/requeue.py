"""Bringing a running job back into the queue, where needed without the nodes that failed it."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.slurm import queue
from pipeline.slurm.batch_script import find_script
from pipeline.slurm.queue import NoSlurmError, SlurmError

_TRIES = 10
_BETWEEN_TRIES_S = 20
"""A controller that is busy or starts anew answers some minutes later."""


def refuse_to_begin_anew(config: RunConfig) -> None:
    """Raise UserError where a job that is started again would not go on from its checkpoint."""
    if config.checkpoint.resume == "never":
        raise UserError(
            "checkpoint.resume=never: SLURM may start the job again, and it would begin anew; leave it out"
        )


def requeue(job_id: str, restart: int, without_nodes: Sequence[str], log: Path) -> None:
    """Have SLURM start this job, which it has restarted `restart` times, once more with the same number.

    SLURM may have put it back into the queue before, as when it preempts the job at once; then that is all.

    A list of excluded nodes can be changed only while a job waits. So it goes back on hold, and another small
    job, whose output goes to `log`, excludes the nodes and lets it go. Where there can be no such job, the
    nodes stay.

    Raises:
        SlurmError: SLURM refuses, or the job was cancelled.
    """
    for attempt in range(_TRIES):
        try:
            _requeue(job_id, restart, without_nodes, log)
            return
        except NoSlurmError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(_BETWEEN_TRIES_S)
        except SlurmError:
            if not _is_queued_again(queue.facts_of_job(job_id), restart):  # it may have been a moment ago
                raise
            return


def _requeue(job_id: str, restart: int, without_nodes: Sequence[str], log: Path) -> None:
    facts = queue.facts_of_job(job_id)
    if _is_queued_again(facts, restart):
        return
    if not _may_go_on(facts):
        raise SlurmError(f"SLURM has it as {facts['JobState'].lower()}")
    queue.requeue(
        job_id, on_hold=bool(without_nodes) and _submit_exclusion(job_id, facts, without_nodes, log)
    )


def _submit_exclusion(job_id: str, facts: dict[str, str], nodes: Sequence[str], log: Path) -> bool:
    """Hand in the job that excludes nodes; whether SLURM takes it."""
    excluded = ",".join([*facts.get("ExcNodeList", "").split(), *nodes])
    place = [f"--{name.lower()}={facts[name]}" for name in ("Partition", "Account", "QOS") if name in facts]
    try:
        queue.submit([*place, f"--output={log}", str(find_script("exclude_nodes.sh")), job_id, excluded])
    except NoSlurmError:
        raise
    except UserError as error:
        print(f"job {job_id} goes on with {excluded} after all: {error}", file=sys.stderr)
        return False
    return True


def _is_queued_again(facts: dict[str, str], restart: int) -> bool:
    return int(facts["Restarts"]) > restart


def _may_go_on(facts: dict[str, str]) -> bool:
    """One that was cancelled may not; SLURM tells it from one that is out of time by the reason alone."""
    return facts["JobState"] == "RUNNING" or facts["Reason"] == "TimeLimit"

"""Bringing a running job back into the queue, where needed without the nodes that failed it."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.slurm import queue
from pipeline.slurm.queue import SlurmError

_SCRIPT = Path(__file__).parents[2] / "slurm" / "exclude_nodes.sh"


def requeue(job_id: str, restart: int, without_nodes: Sequence[str], log: Path) -> None:
    """Have SLURM start this job, which it has restarted `restart` times, once more with the same number.

    SLURM may have put it back into the queue before, as when it preempts the job at once; then that is all.

    A list of excluded nodes can be changed only while a job waits. So it goes back on hold, and another small
    job, whose output goes to `log`, excludes the nodes and lets it go.

    Raises:
        SlurmError: SLURM refuses, or the job was cancelled.
    """
    try:
        _requeue(job_id, restart, without_nodes, log)
    except SlurmError:
        if not _is_queued_again(queue.facts_of_job(job_id), restart):  # it may have been a moment ago
            raise


def _requeue(job_id: str, restart: int, without_nodes: Sequence[str], log: Path) -> None:
    facts = queue.facts_of_job(job_id)
    if _is_queued_again(facts, restart):
        return
    if not _may_go_on(facts):
        raise SlurmError(f"SLURM has it as {facts['JobState'].lower()}")
    if not without_nodes:
        queue.requeue(job_id)
        return
    excluded = ",".join([*facts.get("ExcNodeList", "").split(), *without_nodes])
    place = [f"--{name.lower()}={facts[name]}" for name in ("Partition", "Account", "QOS") if name in facts]
    queue.submit([*place, f"--output={log}", str(_SCRIPT), job_id, excluded])
    queue.requeue(job_id, on_hold=True)


def _is_queued_again(facts: dict[str, str], restart: int) -> bool:
    return int(facts["Restarts"]) > restart


def _may_go_on(facts: dict[str, str]) -> bool:
    """One that was cancelled may not; SLURM tells it from one that is out of time by the reason alone."""
    return facts["JobState"] == "RUNNING" or facts["Reason"] == "TimeLimit"

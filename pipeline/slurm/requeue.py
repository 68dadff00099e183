"""Bringing a running job back into the queue, where needed without the nodes that failed it."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.slurm import queue
from pipeline.slurm.queue import SlurmError

_SCRIPT = Path(__file__).parents[2] / "slurm" / "exclude_nodes.sh"
_GOES_ON_FROM = ("RUNNING", "TIMEOUT")
"""States of a job that may be queued again. One that its user cancelled may not, and one that SLURM preempts
is queued again by SLURM."""


def requeue(job_id: str, without_nodes: Sequence[str], log: Path) -> None:
    """Have SLURM start this job again, with the same number and script.

    A list of excluded nodes can be changed only while a job waits. So it goes back on hold, and another small
    job, whose output goes to `log`, excludes the nodes and lets it go.

    Raises:
        SlurmError: SLURM refuses, or the job was cancelled.
    """
    facts = queue.facts_of_job(job_id)
    if facts["JobState"] not in _GOES_ON_FROM:
        raise SlurmError(f"SLURM has it as {facts['JobState'].lower()}")
    if not without_nodes:
        queue.requeue(job_id)
        return
    excluded = ",".join([*facts.get("ExcNodeList", "").split(), *without_nodes])
    place = [f"--{name.lower()}={facts[name]}" for name in ("Partition", "Account", "QOS") if name in facts]
    queue.submit([*place, f"--output={log}", str(_SCRIPT), job_id, excluded])
    queue.requeue(job_id, on_hold=True)

"""Bringing a running job back into the queue, where needed without the nodes that failed it."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = Path(__file__).parents[2] / "slurm" / "exclude_nodes.sh"
_GOES_ON_FROM = ("RUNNING", "TIMEOUT")
"""States of a job that may be queued again. One that its user cancelled may not, and one that SLURM preempts
is queued again by SLURM."""
_TIMEOUT_S = 60


class NotQueuedError(Exception):
    """SLURM did not take the job back; the message says why."""


def requeue(job: str, without_nodes: Sequence[str], log: Path) -> None:
    """Have SLURM start this job again, with the same number and script.

    A list of excluded nodes can be changed only while a job waits. So it goes back on hold, and another small
    job, whose output goes to `log`, excludes the nodes and lets it go.

    Raises:
        NotQueuedError: SLURM refuses, or the job was cancelled.
    """
    facts = dict(re.findall(r"(\w+)=(\S+)", _ask("scontrol", "show", "job", "--oneliner", job)))
    known = {name: value for name, value in facts.items() if value != "(null)"}
    if known["JobState"] not in _GOES_ON_FROM:
        raise NotQueuedError(f"SLURM has it as {known['JobState'].lower()}")
    if not without_nodes:
        _ask("scontrol", "requeue", job)
        return
    excluded = ",".join([*known.get("ExcNodeList", "").split(), *without_nodes])
    place = [f"--{name.lower()}={known[name]}" for name in ("Partition", "Account", "QOS") if name in known]
    _ask("sbatch", *place, f"--output={log}", str(_SCRIPT), job, excluded)
    _ask("scontrol", "requeuehold", job)


def _ask(*command: str) -> str:
    try:
        answer = subprocess.run(  # noqa: S603 - no shell
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotQueuedError(str(error)) from error
    if answer.returncode:
        raise NotQueuedError(f"{command[0]}: {' '.join(answer.stderr.split())}")
    return answer.stdout

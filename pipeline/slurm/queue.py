"""SLURM's own commands as typed calls: sbatch, squeue, scontrol. What they answer is read here alone."""

import os
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime

from data_prep.errors import UserError
from pipeline.slurm.duration import seconds_of

_ASKED_WITHIN_S = 30
"""A controller that is down lets squeue try for minutes."""
_SUBMITTED_WITHIN_S = 120
"""Longer, since whoever ends sbatch does not know whether there is a job now."""
_SIGNS_OF_ABSENCE = ("contact", "timed out", "Connection refused")
_FIELD_END = "\x1f"
_FORMAT = _FIELD_END.join(("%A", "%T", "%r", "%S", "%l", "%L", "%N", "%k"))
_NUM_FIELDS = 8
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}


class SlurmError(UserError):
    """SLURM refuses, in its own words."""


class NoSlurmError(SlurmError):
    """There is no SLURM on this machine, or its controller does not answer."""


@dataclass(frozen=True)
class Job:
    """A job of this user, as squeue tells it; also one that ended minutes ago."""

    id: str
    state: str
    """SLURM's word for it: PENDING, RUNNING, COMPLETED, …"""
    reason: str | None
    """Why it is pending, or why it ended."""
    start: datetime | None
    """When it started, or is expected to."""
    limit_s: int | None
    """Seconds it may run at a stretch; None without a limit."""
    left_s: int | None
    """Seconds of these that are left."""
    nodes: str
    """In SLURM's short form, node[1-3]; empty before it starts."""
    comment: str

    @property
    def is_live(self) -> bool:
        """Whether it waits, runs or is about to end."""
        return self.state not in _ENDED


def own_jobs() -> list[Job]:
    """The jobs of this user, oldest first.

    Raises:
        NoSlurmError: nobody answers.
    """
    answer = _ask("squeue", f"--user={os.getuid()}", "--states=all", "--noheader", f"--format={_FORMAT}")
    # A comment may go over several lines; what follows its first one has no fields.
    jobs = [_job(line) for line in answer.stdout.split("\n") if line.count(_FIELD_END) >= _NUM_FIELDS - 1]
    return sorted(jobs, key=lambda job: int(job.id))


def facts_of_job(job_id: str) -> dict[str, str]:
    """What scontrol knows of a job, by its names of things; without those that are not set.

    Raises:
        SlurmError: it knows no such job, or nobody answers.
    """
    said = _ask("scontrol", "--oneliner", "show", "job", job_id).stdout
    return {name: value for name, value in re.findall(r"(\S+?)=(\S+)", said) if value != "(null)"}


def has_failed(state: str) -> bool:
    """Whether a job in that state has ended, and not well."""
    return state in _ENDED - {"COMPLETED"}


def num_restarts(job_id: str) -> int | None:
    """How often SLURM has started a job again; None for one that it no longer knows."""
    try:
        return int(facts_of_job(job_id)["Restarts"])
    except SlurmError:
        return None


def requeue(job_id: str, *, on_hold: bool = False) -> None:
    """Put a running job back into the queue, where on hold it waits until someone releases it.

    Raises:
        SlurmError: SLURM refuses.
    """
    _ask("scontrol", "requeuehold" if on_hold else "requeue", job_id)


def submit(arguments: list[str]) -> str:
    """Hand a job in; return its id.

    Raises:
        SlurmError: sbatch refuses it.
    """
    answer = _ask("sbatch", "--parsable", *arguments, timeout_s=_SUBMITTED_WITHIN_S)
    last = answer.stdout.strip().splitlines()[-1]  # a site's own wrapper may speak before
    return last.partition(";")[0]  # the cluster's name may follow


def expected_start(arguments: list[str]) -> tuple[str, str]:
    """When such a job would start if it were handed in now, and on which nodes, in SLURM's words.

    Raises:
        SlurmError: sbatch would refuse it.
    """
    said = _ask("sbatch", "--test-only", *arguments).stderr
    found = re.search(r"to start at (\S+) using .* on nodes (\S+)", said)
    if not found:
        raise SlurmError(f"sbatch --test-only: {_reason(said)}")
    return found[1], found[2]


def _ask(
    program: str, *arguments: str, timeout_s: float = _ASKED_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    try:
        answer = subprocess.run(  # noqa: S603 - no shell
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise NoSlurmError(f"{program}: not on this machine; use a login node of the cluster") from error
    except subprocess.TimeoutExpired as error:
        first = "look at squeue before you submit again" if program == "sbatch" else "see `scontrol ping`"
        raise NoSlurmError(f"{program}: no answer within {timeout_s} s; {first}") from error
    if answer.returncode:
        is_away = program == "squeue" or any(sign in answer.stderr for sign in _SIGNS_OF_ABSENCE)
        raise (NoSlurmError if is_away else SlurmError)(f"{program}: {_reason(answer.stderr)}")
    return answer


def _environment() -> dict[str, str]:
    """Without the user's own filters and formats for squeue."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    return {**own, "SLURM_TIME_FORMAT": "standard"}


def _reason(said: str) -> str:
    """The last line of a refusal, which says most, without the program's name."""
    lines = [line for line in said.splitlines() if line.strip()]
    return re.sub(r"^\w+: (error|fatal): ", "", lines[-1]).strip() if lines else "refused without a word"


def _job(line: str) -> Job:
    job_id, state, reason, start, limit, left, nodes, comment = line.split(_FIELD_END, _NUM_FIELDS - 1)
    return Job(
        id=job_id,
        state=state,
        reason=None if reason == "None" else reason,
        start=datetime.fromisoformat(start) if start[:1].isdigit() else None,
        limit_s=seconds_of(limit),
        left_s=seconds_of(left),
        nodes=nodes,
        comment="" if comment == "(null)" else comment,
    )

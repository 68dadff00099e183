"""What is to become of a job after an attempt: another one, or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from pipeline.engine.stop import INTERRUPTED, STOPPED
from pipeline.slurm.attempts import Attempt

_MISTAKE = 2
_MOST_FRUITLESS = 3
"""Failures in a row without a new checkpoint, whatever the steps: a node may fail, three in a row hardly."""


@dataclass(frozen=True)
class Verdict:
    """Whether SLURM is to start the job again, why, and without which nodes."""

    goes_on: bool
    why: str
    without_nodes: tuple[str, ...] = ()


def verdict(attempts: Sequence[Attempt], max_restarts: int) -> Verdict:
    """Judge the last of the attempts, which has ended, by those before.

    A failure is tried again, but not a second one at the same step, nor the third in a row that left no new
    checkpoint: those would come again, and burn the allocation.
    """
    last = attempts[-1]
    if last.exit_code == 0:
        return Verdict(False, "done")
    if last.exit_code == _MISTAKE:
        return Verdict(False, "refused; see the error above")
    if last.exit_code == INTERRUPTED:
        return Verdict(False, "interrupted")
    if last.restart >= max_restarts:
        return Verdict(False, f"restarted {last.restart} times, which max_restarts allows no more")
    if last.exit_code == STOPPED:
        return Verdict(True, "told to stop; goes on from the newest checkpoint")
    return fruitless(attempts) or _again(last)


def fruitless(attempts: Sequence[Attempt]) -> Verdict | None:
    """Why no other attempt is due after the last one, which failed or was cut off; None if one is."""
    last = attempts[-1]
    failures = list(takewhile(_failed, reversed(attempts)))
    num_alike = sum(attempt.logged_step == last.logged_step for attempt in failures)
    if last.logged_step is not None and num_alike > 1:
        return Verdict(False, f"step {last.failed_step} failed {num_alike} times; see the lines above")
    num_fruitless = len(list(takewhile(lambda attempt: attempt.saved_nothing, failures)))
    if num_fruitless >= _MOST_FRUITLESS:
        return Verdict(
            False, f"{num_fruitless} attempts in a row left no new checkpoint; see the lines above"
        )
    return None


def _again(last: Attempt) -> Verdict:
    why = f"failed in step {last.failed_step}; tried again from step {last.saved_step}"
    if last.lost_hosts:
        why += f" without {', '.join(last.lost_hosts)}, where ranks were lost"
    return Verdict(True, why, last.lost_hosts)


def _failed(attempt: Attempt) -> bool:
    return attempt.is_cut_off or attempt.is_failure

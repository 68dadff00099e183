"""Being told to stop: by a signal, or by the end of the time that a job has."""

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

STOPPED = 75
"""Exit code of a run that saved and stopped as it was told (EX_TEMPFAIL): start it again, it goes on."""
INTERRUPTED = 128 + signal.SIGINT
"""Exit code after Ctrl-C, which is no reason to start it again."""
_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)  # SIGUSR1 is NCCL's


def leave_when_told() -> None:
    """Until the first step there is nothing to save: SIGTERM and SIGUSR2 end this process with STOPPED."""

    def leave(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        print(f"pipeline: told to stop ({name}) before the first step; start it again", file=sys.stderr)
        sys.exit(STOPPED)

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, leave)


class StopRequest:
    """Whether this rank was told to stop. Inside the block, signals are noted rather than obeyed at once.

    Args:
        save_before_s: seconds before the end of a SLURM job's time from which on it counts as told; at most
            half of the time that is left now, so that a short job gets somewhere, too.
    """

    def __init__(self, save_before_s: float) -> None:
        self._reason: str | None = None
        end = os.environ.get("SLURM_JOB_END_TIME", "")
        self._last_moment = None
        if end.isdigit() and save_before_s:
            self._last_moment = max(float(end) - save_before_s, (time.time() + float(end)) / 2)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def reason(self) -> str | None:
        """Why, if so."""
        if self._reason is None and self._last_moment is not None and time.time() >= self._last_moment:
            self._reason = "the end of the job's time"
        return self._reason

    @property
    def exit_code(self) -> int:
        """Of the run that stops."""
        return INTERRUPTED if self._reason == "SIGINT" else STOPPED

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._reason = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)  # the next one is obeyed at once
            print("stopping after this step; Ctrl-C again to stop at once", file=sys.stderr)

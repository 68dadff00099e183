"""How long steps take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Time per step and tokens per second since the last line of metrics, without what is no step.

    `time` and `began`, of the line and of this attempt at the run, are in seconds since 1970. By them the
    lines of one attempt say what steps take with all that is no step.

    Args:
        num_tokens: trained on so far.
    """

    def __init__(self, num_tokens: int) -> None:
        self._began = time.time()
        self._since = time.perf_counter()
        self._num_steps = 0
        self._num_tokens = num_tokens

    def step_done(self) -> None:
        """A step is over."""
        self._num_steps += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time of the block does not count."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def take(self, num_tokens: int, data_wait_s: float) -> dict[str, float]:
        """The figures since the last call, which waited so long for data, as a part of a line of metrics."""
        now = time.perf_counter()
        seconds = now - self._since
        figures = {
            "time": time.time(),
            "began": self._began,
            "step_time_s": seconds / self._num_steps,
            "data_wait_s": data_wait_s / self._num_steps,
            "tokens_per_s": (num_tokens - self._num_tokens) / seconds,
        }
        self._since, self._num_steps, self._num_tokens = now, 0, num_tokens
        return figures

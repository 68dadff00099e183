"""Progress with rate and time left: a moving bar on a terminal, a line now and then in a log.

Beside it, if wanted, a log for machines: a JSON line at the beginning and end of each stage and meanwhile.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

_LOG_SECONDS = 15.0
_WORTH_A_LINE = 5.0
"""Seconds of a stage from which it leaves a line where stderr is no terminal."""


def progress(items: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """Tqdm's bar on stderr; where stderr is no terminal it is refreshed every 15 seconds only."""
    on_screen = sys.stderr.isatty()
    delay = 0 if on_screen else _LOG_SECONDS
    return tqdm(
        items, delay=delay, mininterval=0.2 if on_screen else _LOG_SECONDS, file=sys.stderr, **settings
    )


class Monitor:
    """Shows the stages of a job, and logs them to a file of JSON lines."""

    def __init__(self, log: Path | None = None) -> None:
        self._log = log

    @contextmanager
    def stage(self, name: str, unit: str, total: int | None) -> Iterator[Callable[[dict[str, int]], None]]:
        """Yield a function that takes what was done since its last call: a number of `unit`, and others."""
        done: Counter[str] = Counter()
        begun = logged = time.monotonic()
        form = None if unit else "{desc} {elapsed}"
        bar = progress(desc=name, unit=f" {unit}", unit_scale=True, total=total, leave=False, bar_format=form)
        self._write(name, "begin", done, unit, total, 0.0)

        def report(counts: dict[str, int]) -> None:
            nonlocal logged
            done.update(counts)
            others = {key: f"{value:,}" for key, value in done.items() if key != unit and value}
            bar.set_postfix(others, refresh=False)
            bar.update(counts.get(unit, 0))
            if time.monotonic() - logged >= _LOG_SECONDS:
                logged = time.monotonic()
                self._write(name, "progress", done, unit, total, logged - begun)

        event = "stopped"
        try:
            with bar:
                yield report
            event = "end"
            if not sys.stderr.isatty() and time.monotonic() - begun >= _WORTH_A_LINE:
                print(_line(name, unit, done, time.monotonic() - begun), file=sys.stderr)
        finally:
            self._write(name, event, done, unit, total, time.monotonic() - begun)

    def _write(
        self, stage: str, event: str, done: Counter[str], unit: str, total: int | None, seconds: float
    ) -> None:
        if self._log is None:
            return
        line: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "stage": stage,
            "event": event,
            "elapsed_s": round(seconds, 3),
            **done,
        }
        if total is not None:
            line[f"total_{unit}"] = total
        if unit and seconds:
            line[f"{unit}_per_s"] = round(done[unit] / seconds, 1)
        try:
            with self._log.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            tqdm.write(f"warning: {self._log}: no log is kept ({error.strerror})", file=sys.stderr)
            self._log = None


def _line(name: str, unit: str, done: Counter[str], seconds: float) -> str:
    counts = [f"{value:,} {key}" for key, value in done.items() if value]
    rate = f" ({done[unit] / seconds:,.0f} {unit}/s)" if done[unit] else ""
    return f"{name}: {', '.join([*counts, f'{seconds:,.0f} s'])}{rate}"

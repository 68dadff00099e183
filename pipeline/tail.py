"""`pipeline tail`: the last lines of a run, live or finished, and the time that is left."""

import json
import os
import textwrap
import time
from collections import deque
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipeline.amounts import clock
from pipeline.engine.records import METRICS, NONFINITE, WARNINGS, incident_line
from pipeline.progress import Progress, course_of

_NUM_WARNINGS = 5
_NUM_REMEMBERED = 1_000
"""Lines by which a file that was rewritten is recognised; a run that goes on rewrites it."""
_POLL_S = 1.0
_COLUMNS = (
    ("step", 9),
    ("loss", 7),
    ("average", 7),
    ("worst", 7),
    ("worst task", 14),
    ("eff. tasks", 10),
    ("tokens/s", 10),
)
"""Name and width; together no wider than a terminal of 80 columns."""
_HEADER = "  ".join(f"{name:>{width}}" for name, width in _COLUMNS)
_WIDTH = 80


class LineFile:
    """A file of JSON lines that another process adds to, and may rewrite without its last lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._end = 0, 0
        self._shown: deque[bytes] = deque(maxlen=_NUM_REMEMBERED)

    def new_records(self) -> list[dict[str, Any]]:
        """The lines that came since the last call; at first all. No file has no lines."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._end:
                    self._inode, self._end = status.st_ino, 0
                file.seek(self._end)
                lines = [line for line in file if line.endswith(b"\n")]  # one may be half-written
        except FileNotFoundError:
            return []
        self._end += sum(map(len, lines))
        shown = set(self._shown)
        new = list(takewhile(lambda line: line not in shown, reversed(lines)))[::-1]
        self._shown.extend(new)
        return [json.loads(line) for line in new]


class RunView:
    """A run's folder, as lines to read.

    Args:
        run_dir: the folder of a run.

    Raises:
        UserError: it is none.
    """

    def __init__(self, run_dir: Path) -> None:
        self._name = run_dir.resolve().name
        self._course = course_of(run_dir)
        self._metrics = LineFile(run_dir / METRICS)
        self._warnings = {name: LineFile(run_dir / name) for name in (WARNINGS, NONFINITE)}
        self._recent: deque[dict[str, Any]] = deque(maxlen=self._course.num_lines_of_pace)

    @property
    def is_done(self) -> bool:
        """Whether the last step is among the lines read."""
        return self._progress.is_done

    def last_lines(self, num_lines: int) -> Iterator[str]:
        """A table of the last lines, the last warnings, and how far the run is."""
        records = self._read()
        warnings = self._read_warnings()[-_NUM_WARNINGS:]
        yield _HEADER
        yield from map(_row, records[-num_lines:])
        yield from warnings
        yield self.progress()

    def new_lines(self) -> Iterator[str]:
        """What came since the last call: rows of the table, and warnings."""
        before = self._recent[-1]["step"] if self._recent else 0
        records = self._read()
        if records and records[0]["step"] <= before:
            yield f"the run went on from an earlier checkpoint, at step {records[0]['step']:,}"
        yield from map(_row, records)
        yield from self._read_warnings()
        if records:
            yield self.progress()

    def progress(self) -> str:
        """Steps taken, and the time left at the recent pace, validation and saving included."""
        at = self._progress
        if at.age_s is None or at.left_s is None:
            return f"{self._name}: no line yet"
        done = f"{self._name}: step {at.step:,} of {at.num_steps:,} ({at.step / at.num_steps:.0%})"
        if at.is_done:
            return f"{done}, done"
        pace = f"{clock(at.left_s)} left at {at.step_s:.3g} s a step"
        return f"{done}, {pace}; last line {clock(at.age_s)} ago"

    @property
    def _progress(self) -> Progress:
        return Progress(self._course, self._recent)

    def _read(self) -> list[dict[str, Any]]:
        records = self._metrics.new_records()
        if records and self._recent and records[0]["step"] <= self._recent[-1]["step"]:
            self._recent.clear()
        self._recent.extend(records)
        return records

    def _read_warnings(self) -> list[str]:
        found = [
            (record["step"], warning_line(record))
            for file in self._warnings.values()
            for record in file.new_records()
        ]
        return [
            textwrap.fill(f"warning: {line}", _WIDTH, subsequent_indent="  ") for _, line in sorted(found)
        ]


def follow(view: RunView) -> Iterator[str]:
    """New lines as they come, until the run has taken its last step."""
    while not view.is_done:
        time.sleep(_POLL_S)
        yield from view.new_lines()


def _row(record: dict[str, Any]) -> str:
    cells = (
        f"{record['step']:,}",
        *(_figure(record[name], 3) for name in ("loss", "average_loss", "worst_loss")),
        (record["worst_task"] or "none")[:14],
        _figure(record["num_effective_tasks"], 1),
        f"{record['tokens_per_s']:,.0f}",
    )
    return "  ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))


def _figure(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def warning_line(record: dict[str, Any]) -> str:
    """A line of warnings.jsonl or nonfinite.jsonl as a sentence."""
    return f"step {record['step']}: {record['warning']}" if "warning" in record else incident_line(record)

"""Files of JSON lines that a run adds to, and goes on with after a restart or a full disk."""

import json
from pathlib import Path
from typing import Any

from data_prep.durable import write_durably

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
NONFINITE = "nonfinite.jsonl"
WARNINGS = "warnings.jsonl"
RECORDS = (METRICS, VALIDATION, NONFINITE, WARNINGS)
"""Of steps; a run that goes on from an earlier one cuts them there."""
FAILURES = "failures.jsonl"
"""Of ranks that were lost, a line each time."""

_BLOCK_BYTES = 64 * 1024


class Records:
    """A file of JSON lines. Lines that the disk has no room for wait in memory, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting = b""

    @property
    def num_waiting(self) -> int:
        """Lines that are not in the file yet."""
        return self._waiting.count(b"\n")

    def append(self, record: dict[str, Any]) -> None:
        """Append a line, and those that wait; raises OSError as `flush`."""
        self._waiting += json.dumps(record, allow_nan=False).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Write the lines that wait.

        Raises:
            OSError: they cannot be written now, and go on waiting.
        """
        if not self._waiting:
            return
        with self._path.open("ab", buffering=0) as file:
            end = file.seek(0, 2)
            try:
                if file.write(self._waiting) < len(self._waiting):
                    raise OSError(f"{self._path}: only part of a line could be written")
            except OSError:
                file.truncate(end)
                raise
        self._waiting = b""


def newest_records(path: Path, num_lines: int) -> list[dict[str, Any]]:
    """The last complete lines of a file, oldest first, and nothing read before them. No file has no lines."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return []
    with file:
        end = file.seek(0, 2)
        num_bytes = _BLOCK_BYTES
        while True:
            start = file.seek(max(0, end - num_bytes))
            lines = file.read(end - start).splitlines(keepends=True)
            complete = [line for line in lines[start > 0 :] if line.endswith(b"\n")]
            if start == 0 or len(complete) >= num_lines:
                return [json.loads(line) for line in complete[-num_lines:]]
            num_bytes *= 4


def drop_records_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`: a run that goes on from a checkpoint writes the later ones again."""
    if path.is_file():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        if kept != lines:
            write_durably(path, "".join(kept))


def incident_line(record: dict[str, Any]) -> str:
    """A line of nonfinite.jsonl as a sentence."""
    at_fault = f" ({', '.join(record['tasks'])})" if record["tasks"] else ""
    return f"step {record['step']}: {record['reason']}{at_fault}; {record['then']}"

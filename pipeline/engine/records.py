"""Files of JSON lines that a run adds to, and goes on with after a restart or a full disk."""

import json
from pathlib import Path
from typing import Any

from data_prep.durable import write_durably


class Records:
    """A file of JSON lines. Lines that the disk has no room for wait in memory, in order.

    Args:
        path: the file; it need not exist.
        last_step: lines of later steps are dropped, since a run that goes on writes them again.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self._path = path
        self._waiting = b""
        if path.is_file():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= last_step]
            write_durably(path, "".join(kept))

    def append(self, record: dict[str, Any]) -> None:
        """Append a line, and those that wait.

        Raises:
            OSError: they cannot be written now; they wait for the next call.
        """
        self._waiting += json.dumps(record, allow_nan=False).encode() + b"\n"
        with self._path.open("ab", buffering=0) as file:
            end = file.seek(0, 2)
            try:
                if file.write(self._waiting) < len(self._waiting):
                    raise OSError(f"{self._path}: only part of a line could be written")
            except OSError:
                file.truncate(end)
                raise
        self._waiting = b""

"""The disk that runs go to: room, and the speed at which checkpoints are written and read."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

from pipeline.amounts import MIB
from pipeline.doctor.finding import Finding, State

_GB = 1e9
_FILE_BYTES = 256 * MIB
_BLOCK_BYTES = 32 * MIB
_MOST_OF_FREE = 0.1
"""Part of the free space that the file may take."""
_MOST_S = 5.0
"""Seconds of writing; on a slow disk the file stays smaller."""
_CHECKPOINT_GB = 1.3
"""Of BERT-base: parameters and two moments in fp32. A run keeps 2 and writes a third."""
_SLOW_S = 30.0
"""A checkpoint that takes longer than this holds a run up."""


def examine(out_dir: Path) -> Finding:
    """Write and read a file in a folder, or in the nearest one above it that exists.

    The file has no name, so that nothing remains of it however this ends.
    """
    folder = next(path for path in (out_dir.absolute(), *out_dir.absolute().parents) if path.exists())
    try:
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder) as file:
            num_bytes, write_s = _write(file, min(_FILE_BYTES, int(free * _MOST_OF_FREE)))
            read_s = _read(file)
    except OSError as error:
        return Finding(
            State.BROKEN,
            f"{folder}: cannot be written ({error.strerror})",
            "make room or mend its rights, or put runs elsewhere: out_dir=DIR",
        )
    found = (
        f"{folder}: {free / _GB:,.0f} GB free, writes {num_bytes / write_s / 1e6:,.0f} MB/s, "
        f"reads {num_bytes / read_s / 1e6:,.0f} MB/s"
    )
    checkpoint_s = _CHECKPOINT_GB * _GB * write_s / num_bytes
    if free < 3 * _CHECKPOINT_GB * _GB:
        return Finding(
            State.WARNING,
            f"{found}; three checkpoints of BERT-base take {3 * _CHECKPOINT_GB:.1f} GB",
            "make room, or put runs elsewhere: out_dir=DIR",
        )
    if checkpoint_s > _SLOW_S:
        return Finding(
            State.WARNING,
            f"{found}; a checkpoint of BERT-base takes {checkpoint_s:.0f} s",
            "put runs on a faster disk, out_dir=DIR, or save less often, checkpoint.every=N",
        )
    return Finding(State.WORKS, found)


def _write(file: BinaryIO, most_bytes: int) -> tuple[int, float]:
    """Write up to `most_bytes` of noise; return how many, and the seconds until they are on disk."""
    block = os.urandom(_BLOCK_BYTES)  # zeros would be compressed or left out
    num_bytes = 0
    started = time.perf_counter()
    while num_bytes < max(most_bytes, 1) and time.perf_counter() - started < _MOST_S:
        num_bytes += file.write(block[: max(most_bytes, 1) - num_bytes])
        file.flush()
        os.fdatasync(file.fileno())
    return num_bytes, time.perf_counter() - started


def _read(file: BinaryIO) -> float:
    """Seconds to read the file from the disk rather than from memory."""
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    file.seek(0)
    started = time.perf_counter()
    while file.read(_BLOCK_BYTES):
        pass
    return time.perf_counter() - started

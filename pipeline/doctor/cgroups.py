"""Limits that Linux sets by control groups, for jobs of SLURM and containers; both versions of them."""

from collections.abc import Iterator
from pathlib import Path

_PROCESS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60
"""Version 1 writes a number of this size where there is none; version 2 writes `max`."""


def memory_limits(process: Path = _PROCESS, root: Path = _ROOT) -> list[int]:
    """Limits of this process's memory in bytes: those of its group and of the groups around it."""
    limits = []
    for folder in _groups("memory", process, root):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _first_number(folder / name)
            if limit is not None and limit < _NO_LIMIT:
                limits.append(limit)
    return limits


def core_limits(process: Path = _PROCESS, root: Path = _ROOT) -> list[float]:
    """Limits of this process's computing time as a number of cores."""
    limits = []
    for folder in _groups("cpu", process, root):
        quota = _first_number(folder / "cpu.cfs_quota_us")
        period = _first_number(folder / "cpu.cfs_period_us")
        if (folder / "cpu.max").is_file():
            quota = _first_number(folder / "cpu.max")
            period = int((folder / "cpu.max").read_text().split()[1])
        if quota is not None and period and quota > 0:
            limits.append(quota / period)
    return limits


def _groups(controller: str, process: Path, root: Path) -> Iterator[Path]:
    """The folders of the groups that this process is in, outermost last.

    Args:
        controller: `memory` or `cpu`, which version 1 has a tree each for.
        process: lines `number:controllers:group`; version 2 names no controllers.
        root: where the trees are mounted.
    """
    for line in process.read_text().splitlines() if process.is_file() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        tree = root / controller if controllers else root
        folder = tree / group.lstrip("/")
        yield folder
        yield from (parent for parent in folder.parents if parent.is_relative_to(tree))


def _first_number(file: Path) -> int | None:
    """The first word of a file if it is a number."""
    words = file.read_text().split() if file.is_file() else []
    return int(words[0]) if words and words[0].lstrip("-").isdigit() else None

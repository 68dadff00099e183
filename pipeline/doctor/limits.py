"""What this process may use of the machine: memory, shared memory, cores, open files."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

from pipeline.amounts import GIB, MIB
from pipeline.doctor.cgroups import core_limits, memory_limits
from pipeline.doctor.finding import Finding, State

_SHARED = Path("/dev/shm")  # noqa: S108 - where POSIX has shared memory
_ENOUGH_MEMORY = 4 * GIB
_ENOUGH_SHARED = 1 * GIB
_TRIED_SHARED = 16 * MIB
_ENOUGH_FILES = 1024


def examine_memory() -> Finding:
    """Memory that is free, and the limit that a job or container sets."""
    memory = _memory_info()
    total, available = memory["MemTotal"], memory["MemAvailable"]
    limit = min([total, *memory_limits()])
    free = min(available, limit)
    of = f"{total / GIB:,.0f} GiB" if limit == total else f"the {limit / GIB:,.1f} GiB that this job may use"
    found = f"{free / GIB:,.1f} of {of} free"
    if free < _ENOUGH_MEMORY:
        return Finding(
            State.WARNING,
            f"{found}; a rank with its data worker takes 2 GiB and more",
            "fewer ranks, data.num_workers=0, or ask SLURM for more: #SBATCH --mem-per-cpu=4G",
        )
    return Finding(State.WORKS, found)


def examine_shared_memory() -> Finding:
    """Room in /dev/shm, by which data workers hand over batches, and NCCL gradients."""
    try:
        free = shutil.disk_usage(_SHARED).free
        with tempfile.TemporaryFile(dir=_SHARED) as file:
            os.posix_fallocate(file.fileno(), 0, _TRIED_SHARED)
    except OSError as error:
        return Finding(
            State.BROKEN,
            f"{_SHARED}: {error.strerror}; data workers hand their batches over there",
            "data.num_workers=0, or in a container --shm-size=8g",
        )
    found = f"{_SHARED}: {free / GIB:,.1f} GiB free"
    if free < _ENOUGH_SHARED:
        return Finding(State.WARNING, found, "in a container --shm-size=8g, else data.num_workers=0")
    return Finding(State.WORKS, found)


def examine_cores() -> Finding:
    """Cores that this process may use, of those that the machine has."""
    cores, there = usable_cores(), os.cpu_count() or 1
    found = f"{cores:g} of {there}"
    if cores < 2:
        return Finding(
            State.WARNING,
            f"{found}: a rank and its data worker share one",
            "ask SLURM for more, #SBATCH --cpus-per-task=2, or data.num_workers=0",
        )
    return Finding(State.WORKS, found)


def examine_open_files() -> Finding:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding(State.WORKS, "any number")
    if soft < _ENOUGH_FILES:
        may_raise = hard == resource.RLIM_INFINITY or hard >= _ENOUGH_FILES
        return Finding(
            State.WARNING,
            f"{soft:,} for a process, few for shards and data workers",
            f"ulimit -n {_ENOUGH_FILES}" if may_raise else "ask the administrators for a higher limit",
        )
    return Finding(State.WORKS, f"{soft:,} for a process")


def usable_cores() -> float:
    """Cores that the job, the container or taskset leaves to this process."""
    return min([float(len(os.sched_getaffinity(0))), *core_limits()])


def _memory_info() -> dict[str, int]:
    """The figures of /proc/meminfo, in bytes."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, *_ in lines}

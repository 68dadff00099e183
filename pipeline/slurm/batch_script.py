"""The batch script that `pipeline submit` hands in, and what the #SBATCH lines at its head ask for."""

import argparse
import re
import shlex
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from data_prep.errors import UserError

_SCRIPTS = Path("slurm")
_CHECKOUT = Path(__file__).parents[2]
_NOT_BY_NODE = {
    "ntasks": "--mincpus, and RANKS_PER_NODE where it runs on CPUs",
    "ntasks_per_node": "--mincpus, and RANKS_PER_NODE where it runs on CPUs",
    "gpus": "--gpus-per-node",
    "gpus_per_task": "--gpus-per-node",
}
"""Options that tell SLURM of tasks or totals, and what says instead what each node has."""


@dataclass(frozen=True)
class BatchScript:
    """What a script asks for, as far as ranks depend on it."""

    path: Path
    nodes: tuple[int, int]
    """The fewest and the most."""
    cpus_per_task: int
    gpus_per_node: str | None
    gres: str | None
    time: str | None
    notice_s: int | None
    """Seconds before its end in which a job is told to stop."""


def find_script(name: str = "pretrain.sh") -> Path:
    """A script below the working folder, where the job starts, or of the checkout of this program.

    Raises:
        UserError: there is none.
    """
    for folder in (_SCRIPTS, _CHECKOUT / _SCRIPTS):
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{_SCRIPTS / name}: neither here nor in {_CHECKOUT}; submit from a checkout, or copy the script "
        "from one"
    )


def read_script(path: Path) -> BatchScript:
    """Read a script's head; as sbatch does, no further than to the first command.

    Raises:
        UserError: its lines are malformed, or do not say what each node has.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-N", "--nodes", default="1")
    parser.add_argument("-n", "--ntasks")
    parser.add_argument("--ntasks-per-node")
    parser.add_argument("-c", "--cpus-per-task", type=int, default=1)
    parser.add_argument("--gpus-per-node")
    parser.add_argument("-G", "--gpus")
    parser.add_argument("--gpus-per-task")
    parser.add_argument("--gres")
    parser.add_argument("-t", "--time")
    parser.add_argument("--signal", default="")
    try:
        written = parser.parse_known_args(_words_at_head(path))[0]
    except (ValueError, argparse.ArgumentError) as error:
        raise UserError(f"{path}: its #SBATCH lines: {error}; mend them") from error
    for name, by_node in _NOT_BY_NODE.items():
        if getattr(written, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{path}: #SBATCH {option} does not say what each node has; write {by_node}")
    return BatchScript(
        path=path,
        nodes=_range_of(written.nodes, path),
        cpus_per_task=written.cpus_per_task,
        gpus_per_node=written.gpus_per_node,
        gres=written.gres,
        time=written.time,
        notice_s=notice_of(written.signal),
    )


def notice_of(signal: str) -> int | None:
    """Seconds of B:USR2@300, which is 60 without a number; None without a signal."""
    if not signal:
        return None
    seconds = signal.partition("@")[2]
    return int(seconds) if seconds.isdecimal() else 60


def gpus_of(gres: str | None) -> str | None:
    """4 or a100:4 of gpu:4, or of gpu:a100:4 among others; None without GPUs."""
    found = next((each for each in (gres or "").split(",") if is_gpu(each)), None)
    if found is None:
        return None
    kind = found.split(":")[1:]
    return ":".join(kind if kind and kind[-1].isdecimal() else [*kind, "1"])


def is_gpu(gres: str) -> bool:
    """Whether a resource in SLURM's form is GPUs."""
    return gres.split(":")[0] == "gpu"


def number_of(gpus: str) -> int:
    """Of 4 or a100:4; raises UserError."""
    found = re.fullmatch(r"(?:[\w.-]+:)?(\d+)", gpus)
    if not found:
        raise UserError(f"--gpus-per-node {gpus}: give a number, or TYPE:NUMBER")
    return int(found[1])


def _words_at_head(path: Path) -> list[str]:
    lines = path.read_text().splitlines()
    head = takewhile(lambda line: not line.strip() or line.startswith("#"), lines)
    return [
        word
        for line in head
        if line.startswith("#SBATCH")
        for word in shlex.split(line.removeprefix("#SBATCH"), comments=True)
    ]


def _range_of(nodes: str, path: Path) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", nodes)
    if not found:
        raise UserError(f"{path}: --nodes={nodes} is no number of nodes; mend it, or give --nodes")
    return int(found[1]), int(found[2] or found[1])

"""What a job asks SLURM for: the flags of `pipeline submit`, and for the rest slurm/pretrain.sh."""

import argparse
import os
import re
import shlex
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.engine.run_folder import SLURM
from pipeline.slurm.attempts import LOG
from pipeline.slurm.run_jobs import comment_of

_SCRIPT = Path("slurm/pretrain.sh")
_CHECKOUT = Path(__file__).parents[2]
_DECIDED = (
    "--nodes",
    "--ntasks-per-node",
    "--gpus-per-node",
    "--gpus-per-task",
    "--cpus-per-task",
    "--time",
    "--partition",
    "--account",
    "--dependency",
    "--job-name",
    "--comment",
    "--output",
    "--array",
    "--wrap",
)
"""sbatch takes the first letters for the whole, too; --ntasks and --gpus are such, and no less decided."""
_DECIDED_LETTERS = "NnGctpAdJoa"
_TOTALS = {"ntasks": "--ntasks-per-node", "gpus": "--gpus-per-node", "gpus_per_task": "--gpus-per-node"}
"""Options of a batch script that do not say what each node has, and those that do."""


@dataclass(frozen=True)
class Wishes:
    """The flags of the command line, None where there is none; `options` are further ones of sbatch."""

    nodes: int | None = None
    elastic: bool = False
    ranks_per_node: int | None = None
    gpus_per_node: str | None = None
    cpus_per_rank: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    after: str | None = None
    options: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """A job that could be handed in."""

    script: Path
    fewest_nodes: int
    most_nodes: int
    ranks_per_node: int
    gpus_per_node: str | None
    """In SLURM's form: 4, or a100:4."""
    gres: str | None
    """What the script asks of a node by --gres, which then is the word for GPUs, too."""
    time: str | None
    """None is the partition's default."""
    wishes: Wishes

    @property
    def has_gpus(self) -> bool:
        """Whether ranks compute on GPUs, one each."""
        return self.gpus_per_node is not None

    @property
    def is_elastic(self) -> bool:
        """Whether fewer nodes will do, too."""
        return self.fewest_nodes < self.most_nodes

    @property
    def world_sizes(self) -> range:
        """Numbers of ranks that the job may have, ascending."""
        step = self.ranks_per_node
        return range(self.fewest_nodes * step, self.most_nodes * step + 1, step)

    def arguments(self, config: RunConfig, command_line: list[str]) -> list[str]:
        """What sbatch is called with; `command_line` is what the script hands on to `pipeline pretrain`."""
        wishes, fewest, most = self.wishes, self.fewest_nodes, self.most_nodes
        given = {
            "job-name": config.name,
            "comment": comment_of(config.run_dir),
            "output": str(config.run_dir / SLURM / LOG).replace("%", "%%"),
            "nodes": most if fewest == most else f"{fewest}-{most}",
            "ntasks-per-node": self.ranks_per_node,
            **self._gpus(),
            "cpus-per-task": wishes.cpus_per_rank,
            "time": wishes.time,
            "partition": wishes.partition,
            "account": wishes.account,
            "dependency": f"afterok:{wishes.after}" if wishes.after else None,
            "kill-on-invalid-dep": "yes" if wishes.after else None,
        }
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        return [*options, *wishes.options, str(self.script), *command_line]

    def _gpus(self) -> dict[str, str]:
        """The option that asks for GPUs, in the script's words: SLURM keeps a request in others beside it."""
        if self.gres is None:
            number = self.gpus_per_node or self.wishes.gpus_per_node  # 0 where the script asks for some
            return {"gpus-per-node": number} if number else {}
        others = [each for each in self.gres.split(",") if not _is_gpu(each)]
        return {"gres": ",".join([*others, f"gpu:{self.gpus_per_node or 0}"])}


def make_request(wishes: Wishes) -> Request:
    """Complete the flags by the #SBATCH lines of the batch script.

    Raises:
        UserError: there is no script, or flags contradict each other.
    """
    for option in wishes.options:
        if _is_decided(option):
            name = option.partition("=")[0]
            raise UserError(f"{name} after `--`: `pipeline submit` decides it; see its --help")
    if wishes.after and not re.fullmatch(r"\d+(_\d+)?", wishes.after):
        raise UserError(f"--after {wishes.after}: give the number of a job")
    script = _find_script()
    written = _sbatch_lines(script)
    fewest, most = _range_of(written.nodes, script)
    if wishes.nodes:
        fewest = most = wishes.nodes
    gpus = wishes.gpus_per_node or written.gpus_per_node or _gpus_of(written.gres)
    num_gpus = _number_of(gpus) if gpus else 0
    ranks = wishes.ranks_per_node or num_gpus or written.ntasks_per_node
    if num_gpus and ranks != num_gpus:
        raise UserError(
            f"--ranks-per-node {ranks} with {num_gpus} GPUs per node: each GPU has one rank; leave one out"
        )
    return Request(
        script=script,
        fewest_nodes=1 if wishes.elastic else fewest,
        most_nodes=most,
        ranks_per_node=ranks,
        gpus_per_node=gpus if num_gpus else None,
        gres=written.gres if _gpus_of(written.gres) else None,
        time=wishes.time or os.environ.get("SBATCH_TIMELIMIT") or written.time,
        wishes=wishes,
    )


def _find_script() -> Path:
    """The batch script below the working folder, where the job starts, or of the checkout of this program."""
    for script in (_SCRIPT, _CHECKOUT / _SCRIPT):
        if script.is_file():
            return script
    raise UserError(
        f"{_SCRIPT}: neither here nor in {_CHECKOUT}; submit from a checkout, or copy the script from one"
    )


def _is_decided(option: str) -> bool:
    name, _, value = option.partition("=")
    if not name.startswith("--"):
        return name[1:2] in _DECIDED_LETTERS
    return any(decided.startswith(name) for decided in _DECIDED) or (name == "--gres" and "gpu" in value)


def _sbatch_lines(script: Path) -> argparse.Namespace:
    """The options that a batch script gives sbatch, as far as ranks depend on them.

    As sbatch does, it reads no further than to the first command.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-N", "--nodes", default="1")
    parser.add_argument("--ntasks-per-node", type=int, default=1)
    parser.add_argument("-n", "--ntasks")
    parser.add_argument("--gpus-per-node")
    parser.add_argument("-G", "--gpus")
    parser.add_argument("--gpus-per-task")
    parser.add_argument("--gres")
    parser.add_argument("-t", "--time")
    lines = script.read_text().splitlines()
    head = list(takewhile(lambda line: not line.strip() or line.startswith("#"), lines))
    try:
        words = [
            word
            for line in head
            if line.startswith("#SBATCH")
            for word in shlex.split(line.removeprefix("#SBATCH"), comments=True)
        ]
        written = parser.parse_known_args(words)[0]
    except (ValueError, argparse.ArgumentError) as error:
        raise UserError(f"{script}: its #SBATCH lines: {error}; mend them") from error
    for total, per_node in _TOTALS.items():
        if getattr(written, total):
            raise UserError(
                f"{script}: #SBATCH --{total.replace('_', '-')} does not say what each node has; "
                f"write {per_node} in its place"
            )
    return written


def _range_of(nodes: str, script: Path) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", nodes)
    if not found:
        raise UserError(f"{script}: --nodes={nodes} is no number of nodes; mend it, or give --nodes")
    return int(found[1]), int(found[2] or found[1])


def _gpus_of(gres: str | None) -> str | None:
    """4 or a100:4 of gpu:4, or of gpu:a100:4 among others; None without GPUs."""
    found = next((each for each in (gres or "").split(",") if _is_gpu(each)), None)
    if found is None:
        return None
    kind = found.split(":")[1:]
    return ":".join(kind if kind and kind[-1].isdecimal() else [*kind, "1"])


def _is_gpu(gres: str) -> bool:
    return gres.split(":")[0] == "gpu"


def _number_of(gpus: str) -> int:
    """Of 4 or a100:4."""
    found = re.fullmatch(r"(?:[\w.-]+:)?(\d+)", gpus)
    if not found:
        raise UserError(f"--gpus-per-node {gpus}: give a number, or TYPE:NUMBER")
    return int(found[1])

"""What a job asks SLURM for: the flags of `pipeline submit`, and for the rest slurm/pretrain.sh."""

import argparse
import os
import re
import shlex
from dataclasses import dataclass, field
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
    "--cpus-per-task",
    "--time",
    "--partition",
    "--account",
    "--dependency",
    "--job-name",
    "--comment",
    "--output",
)


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
            "output": config.run_dir / SLURM / LOG,
            "nodes": most if fewest == most else f"{fewest}-{most}",
            "ntasks-per-node": self.ranks_per_node,
            "gpus-per-node": self.gpus_per_node,
            "cpus-per-task": wishes.cpus_per_rank,
            "time": wishes.time,
            "partition": wishes.partition,
            "account": wishes.account,
            "dependency": f"afterok:{wishes.after}" if wishes.after else None,
            "kill-on-invalid-dep": "yes" if wishes.after else None,
        }
        options = [f"--{name}={value}" for name, value in given.items() if value is not None]
        return [*options, *wishes.options, str(self.script), *command_line]


def make_request(wishes: Wishes) -> Request:
    """Complete the flags by the #SBATCH lines of the batch script.

    Raises:
        UserError: there is no script, or flags contradict each other.
    """
    for option in wishes.options:
        name = option.partition("=")[0]
        if name in _DECIDED:
            raise UserError(f"{name} after `--`: `pipeline submit` decides it; see its --help")
    script = _find_script()
    written = _sbatch_lines(script)
    fewest, most = _range_of(written.nodes, script)
    if wishes.nodes:
        fewest = most = wishes.nodes
    gpus = wishes.gpus_per_node or written.gpus_per_node
    num_gpus = _number_of(gpus) if gpus else 0
    ranks = wishes.ranks_per_node or num_gpus or int(written.ntasks_per_node)
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


def _sbatch_lines(script: Path) -> argparse.Namespace:
    """The options that a batch script gives sbatch, as far as ranks depend on them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-N", "--nodes", default="1")
    parser.add_argument("--ntasks-per-node", default="1")
    parser.add_argument("--gpus-per-node")
    parser.add_argument("-t", "--time")
    lines = re.findall(r"^#SBATCH +(.*)$", script.read_text(), re.MULTILINE)
    words = [word for line in lines for word in shlex.split(line, comments=True)]
    return parser.parse_known_args(words)[0]


def _range_of(nodes: str, script: Path) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", nodes)
    if not found:
        raise UserError(f"{script}: --nodes={nodes} is no number of nodes; mend it, or give --nodes")
    return int(found[1]), int(found[2] or found[1])


def _number_of(gpus: str) -> int:
    """Of 4 or a100:4."""
    found = re.fullmatch(r"(?:[\w.-]+:)?(\d+)", gpus)
    if not found:
        raise UserError(f"--gpus-per-node {gpus}: give a number, or TYPE:NUMBER")
    return int(found[1])

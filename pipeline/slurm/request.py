"""What a job asks SLURM for: the flags of `pipeline submit`, and for the rest slurm/pretrain.sh."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.engine.run_folder import SLURM
from pipeline.slurm.attempts import LOG
from pipeline.slurm.batch_script import (
    BatchScript,
    find_script,
    gpus_of,
    is_gpu,
    notice_of,
    number_of,
    read_script,
)
from pipeline.slurm.duration import seconds_of
from pipeline.slurm.run_jobs import comment_of

_DECIDED = (
    "--nodes",
    "--ntasks-per-node",
    "--gpus-per-node",
    "--gpus-per-task",
    "--cpus-per-task",
    "--mincpus",
    "--time",
    "--partition",
    "--account",
    "--dependency",
    "--job-name",
    "--comment",
    "--output",
    "--array",
    "--wrap",
    "--export",
)
"""sbatch takes the first letters for the whole, too; --ntasks and --gpus are such, and no less decided."""
_DECIDED_LETTERS = "NnGctpAdJoa"


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
    cpus_per_rank: int
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
            **self._gpus(),
            "cpus-per-task": wishes.cpus_per_rank,
            "mincpus": self.ranks_per_node * self.cpus_per_rank,
            "export": f"ALL,RANKS_PER_NODE={wishes.ranks_per_node}" if wishes.ranks_per_node else None,
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
        others = [each for each in self.gres.split(",") if not is_gpu(each)]
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
    script = find_script()
    written = read_script(script)
    fewest, most = (wishes.nodes, wishes.nodes) if wishes.nodes else written.nodes
    gpus = wishes.gpus_per_node or written.gpus_per_node or gpus_of(written.gres)
    num_gpus = number_of(gpus) if gpus else 0
    ranks = wishes.ranks_per_node or num_gpus or 1
    if num_gpus and ranks != num_gpus:
        raise UserError(
            f"--ranks-per-node {ranks} with {num_gpus} GPUs per node: each GPU has one rank; leave one out"
        )
    time = wishes.time or os.environ.get("SBATCH_TIMELIMIT") or written.time
    _refuse_time_below_the_notice(time, written, wishes.options)
    return Request(
        script=script,
        fewest_nodes=1 if wishes.elastic else fewest,
        most_nodes=most,
        ranks_per_node=ranks,
        cpus_per_rank=wishes.cpus_per_rank or written.cpus_per_task,
        gpus_per_node=gpus if num_gpus else None,
        gres=written.gres if gpus_of(written.gres) else None,
        time=time,
        wishes=wishes,
    )


def _refuse_time_below_the_notice(time: str | None, written: BatchScript, options: list[str]) -> None:
    """Raise UserError where a job would be told to stop as soon as it has begun, each time."""
    signals = [option.removeprefix("--signal=") for option in options if option.startswith("--signal=")]
    notice_s = notice_of(signals[-1]) if signals else written.notice_s
    time_s = seconds_of(time) if time else None
    if time_s is not None and notice_s and time_s < 2 * notice_s:
        raise UserError(
            f"--time {time}: a job is told to stop {notice_s} s before its time is up (--signal in "
            f"{written.path}), so it would hardly train; give {-(-2 * notice_s // 60)} minutes or more, or "
            f"lower it after `--`: --signal=B:USR2@{time_s // 4}"
        )


def _is_decided(option: str) -> bool:
    name, _, value = option.partition("=")
    if not name.startswith("--"):
        return name[1:2] in _DECIDED_LETTERS
    return any(decided.startswith(name) for decided in _DECIDED) or (name == "--gres" and "gpu" in value)

"""`pipeline submit`: a run is checked, shown, and handed to SLURM as a job of slurm/pretrain.sh."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from data_prep.errors import UserError
from pipeline.amounts import size
from pipeline.config import RunConfig
from pipeline.engine.run_folder import SLURM
from pipeline.facts import facts_table
from pipeline.run_file import load_config
from pipeline.slurm import queue
from pipeline.slurm.attempts import LOG
from pipeline.slurm.request import Request, Wishes, make_request
from pipeline.slurm.run_jobs import jobs_of

if TYPE_CHECKING:
    from pipeline.slurm.checks import CheckedRun

_WIDTH = 80


def submit(
    config_file: Path,
    overrides: list[str],
    wishes: Wishes,
    gpu_memory_gib: float | None,
    console: Console,
    *,
    dry_run: bool,
) -> None:
    """Check a run, show what is handed in, and unless it is a dry run hand it in.

    Raises:
        UserError: the run would not train, or SLURM refuses the job; nothing has been handed in then.
    """
    config = load_config(config_file, overrides)
    request = make_request(wishes)
    no_slurm = None
    try:
        _refuse_second_job(config, wishes.after)
        if wishes.after:
            _refuse_to_wait_in_vain(wishes.after)
    except queue.NoSlurmError as error:
        if not dry_run:
            raise
        no_slurm = error

    from pipeline.slurm.checks import check_run  # only now, since it takes seconds to import

    checked = check_run(config, request, gpu_memory_gib)
    for warning in checked.warnings:
        print(f"pipeline: warning: {warning}", file=sys.stderr)
    arguments = request.arguments(config, [str(config_file), *overrides])
    console.print(facts_table(_facts(checked)))
    _print_lines(console, "", *_shell_lines(["sbatch", *arguments]), "")
    if dry_run:
        outlook = f"SLURM was not asked: {no_slurm}." if no_slurm else _outlook(arguments)
        console.print(f"A dry run: nothing is in the queue. {outlook}", markup=False, highlight=False)
        return
    queue.expected_start(arguments)  # what can never start would wait for ever
    log = config.run_dir / SLURM / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    job = queue.submit(arguments)
    run = shlex.quote(str(config.run_dir))
    _print_lines(
        console,
        f"Job {job} is in the queue. To watch it:",
        f"    pipeline status {run}",
        f"    pipeline tail {run} --follow",
        f"    tail -F {shlex.quote(str(log))}",
    )


def _refuse_second_job(config: RunConfig, after: str | None) -> None:
    """A run has one job at a time, or one that waits for another."""
    live = [job for job in jobs_of(config.run_dir, queue.own_jobs()) if job.is_live]
    if live and after not in [job.id for job in live]:
        job = live[-1]
        raise UserError(
            f"{config.run_dir}: job {job.id} of this run is {job.state.lower()} already; scancel {job.id}, "
            f"wait for it with --after {job.id}, or start another run with name=…"
        )


def _refuse_to_wait_in_vain(after: str) -> None:
    """SLURM would start a job at once after one that it does not know, and never after one that failed."""
    try:
        state = queue.facts_of_job(after)["JobState"]
    except queue.NoSlurmError:
        raise
    except queue.SlurmError as error:
        raise UserError(
            f"--after {after}: SLURM knows no such job; leave it out if that one has ended well some time ago"
        ) from error
    if queue.has_failed(state):
        raise UserError(
            f"--after {after}: that job is {state.lower()}; submit it again, and wait for the new one"
        )


def _facts(checked: "CheckedRun") -> dict[str, str]:
    config, plan, request = checked.config, checked.plan, checked.request
    from_step = f", from {checked.start.name}" if checked.start else ""
    batch = plan.batch
    disk = size(checked.num_checkpoints * plan.checkpoint.total)
    fewest = f", on {batch.world_size:,} rank{'s' * (batch.world_size > 1)}" if request.is_elastic else ""
    return {
        "run": f"{config.run_dir}, {config.steps:,} steps{from_step}",
        "model": f"{plan.parameters.num_all:,} parameters, {config.precision}",
        "ranks": _ranks(request),
        "a step": f"{batch.global_size:,} sequences = {batch.num_micro_batches:,} micro-batches of "
        f"{batch.micro_size:,}",
        "memory": f"{size(plan.memory[plan.stage].peak)} per rank at ZeRO stage {plan.stage}{fewest}",
        "checkpoint": f"{size(plan.checkpoint.total)}, {checked.num_checkpoints} of them {disk} at most; "
        f"room for {size(checked.room_bytes)}",
        "time limit": _time_limit(request),
        **({"after": f"job {request.wishes.after} has ended well"} if request.wishes.after else {}),
    }


def _ranks(request: Request) -> str:
    most = request.most_nodes
    nodes = f"1 to {most:,}" if request.is_elastic else f"{most:,}"
    kind = "GPU" if request.has_gpus else "CPU process"
    plural = ("s" if request.has_gpus else "es") if request.ranks_per_node > 1 else ""
    total = f"{request.world_sizes[-1]:,} ranks" if request.world_sizes[-1] > 1 else "1 rank"
    return (
        f"{nodes} node{'s' * (most > 1)} × {request.ranks_per_node:,} {kind}{plural} = "
        f"{'up to ' if request.is_elastic else ''}{total}"
    )


def _time_limit(request: Request) -> str:
    if request.time is None:
        return "the partition's"
    return f"{request.time} minutes" if request.time.isdecimal() else request.time


def _outlook(arguments: list[str]) -> str:
    start, nodes = queue.expected_start(arguments)
    return f"SLURM would start it at {start.replace('T', ' ')} on {nodes}."


def _shell_lines(command: list[str]) -> list[str]:
    """A command for the shell, broken where words end, to be read and to be copied."""
    lines = [""]
    for word in map(shlex.quote, command):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > _WIDTH:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _print_lines(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

"""`pipeline slurm`: what slurm/pretrain.sh asks before its ranks start and after they ended."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_prep.errors import UserError
from data_prep.schema import read_manifest
from pipeline.engine.run_folder import SLURM
from pipeline.run_file import load_config
from pipeline.slurm.attempts import LOG, AttemptLog
from pipeline.slurm.queue import SlurmError
from pipeline.slurm.requeue import refuse_to_begin_anew, requeue
from pipeline.slurm.verdict import fruitless, verdict

app = typer.Typer(no_args_is_help=True, help="What slurm/pretrain.sh calls around the ranks of a job.")

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="Run file (YAML).")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override keys of the run file.")
]


@app.command(epilog='Example: log=$(pipeline slurm begin "$@")')
def begin(config: ConfigArgument, overrides: OverridesArgument = None) -> None:
    """Write down that a job starts; print the file for its output. Refuses what could not go on."""
    _job()
    run_config = load_config(config, overrides or [])
    refuse_to_begin_anew(run_config)
    read_manifest(run_config.data.path)
    run_dir = run_config.run_dir
    attempts = AttemptLog(run_dir)
    before = attempts.attempts
    if before and before[-1].is_cut_off and (refusal := fruitless(before)):
        print(f"{run_dir}: {refusal.why}; not tried again", file=sys.stderr)
        raise typer.Exit(1)
    attempt = attempts.begin(os.environ["SLURM_JOB_NODELIST"])
    restart = f", restart {attempt.restart}" if attempt.restart else ""
    where = f"job {attempt.job}{restart} on {attempt.nodes}, from step {attempt.saved_step_before}"
    log = run_dir / SLURM / LOG
    print(f"{run_dir}: {where}; output goes to {log}", file=sys.stderr)
    print(log)


@app.command(epilog='Example: pipeline slurm end "$@" --exit-code 75')
def end(
    config: ConfigArgument,
    exit_code: Annotated[int, typer.Option(help="Of the ranks.")],
    overrides: OverridesArgument = None,
    max_restarts: Annotated[int, typer.Option(min=0, help="Restarts of a job at most.")] = 100,
) -> None:
    """Write down how a job's ranks ended, and queue the job again where another attempt may get further."""
    job = _job()
    run_dir = load_config(config, overrides or []).run_dir
    attempts = AttemptLog(run_dir)
    last = attempts.end(exit_code)
    judgement = verdict(attempts.attempts, max_restarts)
    print(f"{run_dir}: job {job}: {judgement.why}", file=sys.stderr, flush=True)
    if judgement.goes_on:
        try:
            requeue(job, last.restart, judgement.without_nodes, run_dir / SLURM / LOG)
        except SlurmError as error:
            print(f"{run_dir}: job {job} is not queued again: {error}", file=sys.stderr)
            raise typer.Exit(last.exit_code or 0) from error
    raise typer.Exit(last.exit_code or 0)


def _job() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or "SLURM_JOB_NODELIST" not in os.environ:
        raise UserError("not in a job of SLURM; slurm/pretrain.sh calls this, submit that with sbatch")
    return job

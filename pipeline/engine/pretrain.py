"""`pipeline pretrain`: from a job to its run, after all that can be refused was."""

import shutil
import sys
from pathlib import Path

from pipeline.engine.alone import training_alone
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.compilation import check_compiler
from pipeline.engine.job import Job
from pipeline.engine.metrics import PROFILE, TENSORBOARD
from pipeline.engine.preflight import check_agreement, facts_of
from pipeline.engine.ranks import on_rank_zero
from pipeline.engine.records import RECORDS
from pipeline.engine.resume import find_sound_start, find_start
from pipeline.engine.training import TrainingRun
from pipeline.engine.wandb_run import check_wandb_installed, forget_wandb_run


def pretrain(job: Job) -> None:
    """Train to `job.config.steps` on all ranks, from the run's newest checkpoint if it has one.

    Raises:
        UserError: a refusal, before the first step.
    """
    config, place = job.config, job.place
    check_agreement(facts_of(config, job.ds_settings, job.model_recipe), place)
    if config.compile:
        check_compiler(place)
    on_rank_zero(place, lambda: check_wandb_installed(config))
    start = on_rank_zero(place, lambda: find_start(config, job.model_recipe))
    first_step = read_manifest(start).step if start else 0
    if first_step >= config.steps:
        if place.rank == 0:
            print(f"{start}: already at step {first_step} of {config.steps}; nothing to do")
        return
    if not start and job.initialise:
        done = job.initialise()
        if place.rank == 0:
            print(f"{config.run_dir}: {done}", file=sys.stderr)
    with training_alone(config.run_dir, place):
        if start:
            start = on_rank_zero(place, lambda: find_sound_start(config, job.model_recipe))
        elif place.rank == 0:
            _clear(config.run_dir)
        run = TrainingRun(job, start)
        with run.peers.watched(), run.loader.ahead(run.step, config.steps):
            run.train()


def _clear(run_dir: Path) -> None:
    """Drop what a run that has no checkpoint yet may have left."""
    for name in RECORDS:
        (run_dir / name).unlink(missing_ok=True)
    for name in (TENSORBOARD, PROFILE):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    forget_wandb_run(run_dir)

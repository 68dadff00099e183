"""The training loop: steps, records, validation, checkpoints, and going on where a run stopped."""

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_prep.durable import write_durably
from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.data.interface import TrainData
from pipeline.data.loader import MicroBatchLoader
from pipeline.engine import workarounds
from pipeline.engine.checkpoint import (
    CheckpointManifest,
    check_files,
    checkpoint_folder,
    load_parameters,
    load_progress,
    optimizer_progress,
    read_manifest,
    save_checkpoint,
)
from pipeline.engine.ds_config import complete_ds_config, zero_stage
from pipeline.engine.estimator import CoefficientRule
from pipeline.engine.launch import Place
from pipeline.engine.metrics import METRICS, VALIDATION, RunLog, training_record
from pipeline.engine.optimizer import build_optimizer, build_schedule
from pipeline.engine.peers import Peers
from pipeline.engine.resume import CONFIG, DS_CONFIG, find_start, on_rank_zero
from pipeline.engine.step import StepResult, StepRunner
from pipeline.engine.stop import STOPPED, StopRequest
from pipeline.evaluation import average_loss, held_out_totals, task_figures, worst_task
from pipeline.models.interface import TaskModel
from pipeline.objectives import build_objective


@dataclass(frozen=True)
class Job:
    """What is to be trained, and where.

    `ds_settings` is the checked DeepSpeed JSON. `model` is initialised alike on all ranks; `model_recipe` is
    what it was built from beside the configuration, and is kept in checkpoints.
    """

    config: RunConfig
    ds_settings: dict[str, Any]
    data: TrainData
    model: TaskModel
    model_recipe: dict[str, Any]
    place: Place


def pretrain(job: Job) -> None:
    """Train to `job.config.steps` on all ranks, from the run's newest checkpoint if it has one.

    Raises:
        UserError: a refusal, before the first step.
    """
    config, place = job.config, job.place
    reason = workarounds.refusal(zero_stage(job.ds_settings), config.precision, place.device)
    if reason:
        raise UserError(reason)
    start = on_rank_zero(place, lambda: find_start(config, job.model_recipe))
    first_step = read_manifest(start).step if start else 0
    if first_step >= config.steps:
        if place.rank == 0:
            print(f"{config.run_dir}: already at step {first_step} of {config.steps}; nothing to do")
        return
    if start:
        on_rank_zero(place, lambda: check_files(start, read_manifest(start)))
    elif place.rank == 0:
        _clear(config.run_dir)
    run = TrainingRun(job, start)
    with run.peers.watched(), run.loader.ahead(first_step, config.steps):
        run.train()


def _clear(run_dir: Path) -> None:
    """Drop what a run that has no checkpoint yet may have left."""
    for name in (METRICS, VALIDATION):
        (run_dir / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)


class TrainingRun:
    """A job under way, from its first step or from a checkpoint: DeepSpeed's engine, and what it writes."""

    def __init__(self, job: Job, start: Path | None = None) -> None:
        import deepspeed

        if start:  # before DeepSpeed cuts and casts them
            load_parameters(start, read_manifest(start), job.model.network)

        config, data, place = job.config, job.data, job.place
        self._config, self._data, self._place = config, data, place
        self._model, self._model_recipe = job.model, job.model_recipe
        self._ds_config = complete_ds_config(job.ds_settings, config, place.world_size)
        self.engine, *_ = deepspeed.initialize(
            model=job.model.to(place.device),
            optimizer=build_optimizer(job.model, config.optimizer),
            lr_scheduler=build_schedule(config.schedule, config.steps),
            config=self._ds_config,
        )
        workarounds.after_initialize(self.engine, config.timeout_s)
        self.peers = Peers(place)
        objective = config.objective
        self._rule = CoefficientRule(
            build_objective(objective), data.terms, objective.estimator, objective.ema_decay, place.device
        )
        num_micro_batches = config.batch.num_micro_batches
        self.loader = MicroBatchLoader(
            data,
            config.data.num_workers,
            num_micro_batches,
            place.rank,
            place.world_size,
            pin_memory=place.device.type == "cuda",
        )
        self.runner = StepRunner(self.engine, self.loader, self._rule, num_micro_batches, config.seed, place)
        self._step = 0
        self._tokens = torch.zeros((), dtype=torch.long, device=place.device)
        self._held_out = (
            data.held_out("validation", config.validation.num_samples) if config.validation.every else None
        )

        if start:
            self._go_on_from(start)

    def _go_on_from(self, checkpoint: Path) -> None:
        manifest = read_manifest(checkpoint)
        load_progress(self.engine, self._model.network, checkpoint)
        self._rule.load_state_dict(manifest.rule)
        self._step, self._tokens = manifest.step, self._tokens + manifest.tokens
        if self._place.rank == 0:
            print(f"{self._config.run_dir}: going on after step {self._step}", file=sys.stderr)

    def train(self) -> None:
        """All remaining steps, or those before it is told to stop.

        Raises:
            SystemExit: with STOPPED, on all ranks after the same step, once it is saved.
        """
        with StopRequest(self._config.checkpoint.save_before_s) as request:
            self._train(request)

    def _train(self, request: StopRequest) -> None:
        config = self._config
        log = self._open_log()
        told: torch.Tensor | None = None
        since, steps_since, tokens_before = time.perf_counter(), 0, int(self._tokens)
        while self._step < config.steps:
            lr = self.engine.get_lr()[0]
            # What the step before has said is at hand now, even where a GPU is behind.
            stops = told is not None and bool(told)
            self.peers.at(self._step)
            result = self.runner.run(self._step, told_to_stop=request.reason is not None)
            told = result.num_told_to_stop
            self._step += 1
            steps_since += 1
            self._tokens = self._tokens + result.num_tokens
            if log:
                log.step_done()
            if self._due(config.log.every) or self._due(config.checkpoint.every) or stops:
                self._refuse_nonfinite(result)
            if self._due(config.log.every) and log:
                record = training_record(result, self._data.terms)
                tokens, seconds = int(self._tokens), time.perf_counter() - since
                speed = (tokens - tokens_before) / seconds
                wait = self.loader.take_wait_s() / steps_since
                log.record(self._with_progress(record, lr, seconds / steps_since, wait, speed))
                since, steps_since, tokens_before = time.perf_counter(), 0, tokens
            pause = time.perf_counter()
            if self._held_out and self._due(config.validation.every):
                self._validate(log)
            if self._due(config.checkpoint.every) or stops:
                self._save()
            if stops and self._step < config.steps:
                self._end_early(log, request)
            since += time.perf_counter() - pause
        if log:
            log.close()
            print(f"{config.run_dir}: done; {checkpoint_folder(config.run_dir, self._step)}", file=sys.stderr)

    def _end_early(self, log: RunLog | None, request: StopRequest) -> None:
        if log:
            log.close()
            print(
                f"{self._config.run_dir}: told to stop ({request.reason or 'another rank was'}); saved step "
                f"{self._step} of {self._config.steps}; the same command goes on from there",
                file=sys.stderr,
            )
        raise SystemExit(STOPPED)

    def _open_log(self) -> RunLog | None:
        if self._place.rank != 0:
            return None
        run_dir = self._config.run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        write_durably(run_dir / CONFIG, self._config.to_yaml())
        write_durably(run_dir / DS_CONFIG, json.dumps(self._ds_config, indent=2) + "\n")
        return RunLog(run_dir, self._step, self._config.steps)

    def _refuse_nonfinite(self, result: StepResult) -> None:
        """Stop all ranks before a loss that is no number is recorded or saved."""
        if not torch.isfinite(result.sums).all():
            raise UserError(
                f"{self._config.run_dir}: step {self._step}: the loss is not a finite number; lower "
                "optimizer.lr or set optimizer.grad_clip (checkpoints from before are kept)"
            )

    def _due(self, every: int) -> bool:
        return self._step == self._config.steps or (every > 0 and self._step % every == 0)

    def _with_progress(
        self, record: dict[str, Any], lr: float, step_time_s: float, data_wait_s: float, tokens_per_s: float
    ) -> dict[str, Any]:
        progress = {
            "step": self._step,
            "samples": self._step * self._config.batch.global_size,
            "tokens": int(self._tokens),
        }
        pace = {"step_time_s": step_time_s, "data_wait_s": data_wait_s, "tokens_per_s": tokens_per_s}
        return {**progress, **record, "lr": lr, **pace}

    def _validate(self, log: RunLog | None) -> None:
        assert self._held_out is not None
        terms = self._data.terms
        self.engine.eval()
        totals = held_out_totals(
            lambda inputs: self.engine(inputs, score=True),
            self._held_out,
            len(terms),
            self._place.device,
            self._place.rank,
            self._place.world_size,
        )
        if log is None:
            return
        figures = task_figures(totals, terms.names, with_intervals=False)
        tasks = {name: figures[name] for name in self._held_out.task_names if name in figures}
        worst = worst_task(tasks)
        log.record_validation(
            {
                "step": self._step,
                "average_loss": average_loss(tasks),
                "worst_task": worst,
                "worst_loss": tasks[worst].loss.value if worst else None,
                "task_loss": {name: figure.loss.value for name, figure in figures.items()},
                "task_accuracy": {name: figure.accuracy.value for name, figure in figures.items()},
                "task_count": {name: figure.count for name, figure in figures.items()},
                "mask_hash": self._held_out.mask_hash,
            }
        )

    def _save(self) -> None:
        manifest = CheckpointManifest(
            step=self._step,
            tokens=int(self._tokens),
            config=self._config.to_dict(),
            model=self._model_recipe,
            rule=self._rule.state_dict(),
            optimizer=optimizer_progress(self.engine),
            world_size=self._place.world_size,
            zero_stage=self.engine.zero_optimization_stage(),
            files={},
        )
        save_checkpoint(
            self.engine,
            self._model.network,
            self._config.run_dir,
            manifest,
            self._data.companion_files(),
            self._config.checkpoint.keep_last,
            self._place,
        )

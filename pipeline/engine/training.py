"""The training loop: steps, records, validation, checkpoints, and what becomes of a step gone wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from data_prep.durable import write_durably
from data_prep.errors import UserError
from pipeline.data.loader import MicroBatchLoader
from pipeline.engine import workarounds
from pipeline.engine.activation_checkpointing import checkpoint_layers
from pipeline.engine.checkpoint import (
    CheckpointManifest,
    load_parameters,
    load_progress,
    optimizer_progress,
    read_manifest,
)
from pipeline.engine.compilation import compile_layers
from pipeline.engine.ds_config import complete_ds_config
from pipeline.engine.estimator import CoefficientRule, with_estimator
from pipeline.engine.figures import estimator_record, learning_rates, memory_record, training_record
from pipeline.engine.guard import LossGuard, UpdateGate
from pipeline.engine.job import Job
from pipeline.engine.metrics import RunLog
from pipeline.engine.nonfinite import incident_record, respond
from pipeline.engine.optimizer_state import (
    base_optimizer,
    check_locations,
    place_pieces,
    renew_working_weights,
)
from pipeline.engine.pace import Pace
from pipeline.engine.peers import Peers
from pipeline.engine.preflight import flat
from pipeline.engine.ranks import on_rank_zero
from pipeline.engine.records import FAILURES, RECORDS, drop_records_after
from pipeline.engine.resume import TOLD, has_other_tasks, keys_that_must_agree
from pipeline.engine.run_folder import CONFIG, DS_CONFIG, checkpoint_folder, step_of
from pipeline.engine.saving import CheckpointSaver, NeverWrittenError
from pipeline.engine.schedule import build_schedule, set_schedule
from pipeline.engine.step import StepResult, StepRunner
from pipeline.engine.stop import StopRequest
from pipeline.engine.utilisation import Utilisation
from pipeline.engine.validation import validation_record
from pipeline.optimizers import build_optimizer


class TrainingRun:
    """A job under way, from its first step or from a checkpoint: DeepSpeed's engine, and what it writes."""

    def __init__(self, job: Job, start: Path | None = None) -> None:
        import deepspeed

        data, place = job.data, job.place
        before = read_manifest(start) if start else None
        config = with_estimator(job.config, before.config if before else None, place.world_size)
        self._config, self._data, self._place = config, data, place
        self._network, self._model_recipe = job.model.network, job.model_recipe
        if start and before:  # now, since DeepSpeed is about to cut and cast them
            load_parameters(start, before, self._network)
        frozen = {
            name: parameter.detach().float().clone()
            for name, parameter in self._network.named_parameters()
            if not parameter.requires_grad
        }
        self._ds_config = complete_ds_config(job.ds_settings, config, place.world_size)
        if config.compile:
            compile_layers(job.model.layers())
        checkpoint_layers(job.model.layers(), job.ds_settings)
        matrix_type = torch.bfloat16 if config.precision == "bf16" else torch.float32
        optimizer = build_optimizer(job.model, config.optimizer, job.model.hidden_matrices(), matrix_type)
        gate = UpdateGate(optimizer)
        self.engine, *_ = deepspeed.initialize(
            model=job.model.to(place.device),
            optimizer=optimizer,
            lr_scheduler=build_schedule(config.schedule, config.num_planned_steps),
            config=self._ds_config,
        )
        workarounds.after_initialize(self.engine, config.timeout_s)
        check_locations(self.engine, self._network)
        place_pieces(self.engine, self._network, place)
        self.peers = Peers(place, config.run_dir / FAILURES)
        self._rule = CoefficientRule.of(config.objective, data.terms, config.num_planned_steps, place.device)
        self._guard = LossGuard(data.terms.is_task.to(place.device), config.spike_factor)
        num_micro_batches = config.batch.num_micro_batches
        self.loader = MicroBatchLoader(
            data,
            config.data.num_workers,
            num_micro_batches,
            place.rank,
            place.world_size,
            pin_memory=place.device.type == "cuda",
        )
        self.runner = StepRunner(
            self.engine, self.loader, self._rule, self._guard, gate, num_micro_batches, config.seed, place
        )
        self._saver = CheckpointSaver(
            self.engine,
            self._network,
            frozen,
            config.run_dir,
            config.checkpoint,
            data.companion_files(),
            place,
        )
        self._utilisation = Utilisation.of(config, job.flops_per_token, place)
        self._held_out = (
            data.held_out("validation", config.validation.num_samples) if config.validation.every else None
        )
        self.step = 0
        """Steps taken, over all parts of the run."""
        self._tokens = torch.zeros((), dtype=torch.long, device=place.device)
        if start:
            self._go_on_from(start)

    def _go_on_from(self, checkpoint: Path) -> None:
        manifest = self._restore(checkpoint)
        average = {"usual_loss": None} if self._has_other_tasks(manifest) else {}
        self._guard.load_state_dict(manifest.guard | average)
        self.step, self._tokens = manifest.step, self._tokens + manifest.tokens
        set_schedule(self.engine.lr_scheduler, self.step)
        if self._place.rank == 0:
            then, now = flat(manifest.config), flat(self._config.to_dict())
            changed = [f"{key} {now[key]:.9g}, not {then[key]:.9g}" for key in TOLD if now[key] != then[key]]
            changed += [f"{key} {new}, not {old}" for key, old, new in self._changed_objective(manifest)]
            with_what = f" with {', '.join(changed)}" if changed else ""
            print(f"{self._config.run_dir}: going on after step {self.step}{with_what}", file=sys.stderr)

    def _restore(self, checkpoint: Path) -> CheckpointManifest:
        manifest = load_progress(self.engine, self._network, checkpoint)
        rule = manifest.rule
        if self._has_other_tasks(manifest):
            rule = self._rule.state_dict()
        elif self._changed_objective(manifest):  # it begins afresh, with the losses that are known
            rule = rule | {"objective": self._rule.state_dict()["objective"]}
        self._rule.load_state_dict(rule)
        return manifest

    def _has_other_tasks(self, manifest: CheckpointManifest) -> bool:
        return has_other_tasks(manifest.config, self._config.to_dict())

    def _changed_objective(self, manifest: CheckpointManifest) -> list[tuple[str, Any, Any]]:
        """Keys of the objective and its tasks, with their values then and now, where it is another one."""
        return list(keys_that_must_agree(manifest.config, self._config.to_dict(), with_objective=True))

    def train(self) -> None:
        """All remaining steps, or those before it is told to stop.

        Raises:
            UserError: a step's loss or gradient is not a finite number, and the run is to stop then.
            SystemExit: with STOPPED, on all ranks after the same step, once it is saved; with 1 where the
                last checkpoint could not be saved.
        """
        on_rank_zero(self._place, self._prepare_folder)
        is_first = self._place.rank == 0
        log = RunLog(self._config, self._data.terms, self._place.device, self.step) if is_first else None
        try:
            with StopRequest(self._config.checkpoint.save_before_s) as request:
                is_told = self._take_steps(request, log)
        except NeverWrittenError as error:
            advice = "look at its disk; the same command goes on from the newest checkpoint"
            print(f"pipeline: error: {self._config.run_dir}: {error}; {advice}", file=sys.stderr)
            raise SystemExit(1) from error
        finally:
            if log:
                log.close()
        self._end(request, is_told)

    def _take_steps(self, request: StopRequest, log: RunLog | None) -> bool:
        """Take and save steps to the end, or until a rank was told to stop; whether one was."""
        config = self._config
        is_told = False
        pace = Pace(int(self._tokens))
        while self.step < config.steps and not is_told:
            rates = learning_rates(base_optimizer(self.engine))
            self.peers.at(self.step)
            result = self.runner.run(self.step, told_to_stop=request.reason is not None)
            self.step += 1
            self._tokens = self._tokens + result.num_tokens
            is_told = bool(result.num_told_to_stop)
            pace.step_done()
            if log:
                with pace.paused():
                    log.step_done(result)
            if result.refusal:
                self._meet_refusal(result, log)
            if log and self._due(config.log.every):
                progress = self._progress()
                speed = pace.take(progress["tokens"], self.loader.take_wait_s())
                if self._utilisation:
                    speed |= self._utilisation.record(speed["tokens_per_s"])
                figures = training_record(result, self._data.terms) | memory_record(self._place.device)
                figures |= estimator_record(self._rule, self._data.terms)
                log.record(progress | figures | rates | speed)
            with pace.paused():
                if (is_told or self._due(config.checkpoint.every)) and not self._is_in_trouble:
                    self._saver.save(self.manifest())
                if is_told:  # it may not live through a validation
                    self._saver.wait()
                if self._held_out and self._due(config.validation.every):
                    self._validate(log)
        self._saver.wait()
        return is_told

    @property
    def _is_in_trouble(self) -> bool:
        """Several steps in a row had no update: it may be the parameters that are bad, not the data."""
        return self._guard.num_skipped_in_a_row > 1

    def _end(self, request: StopRequest, is_told: bool) -> None:
        """Say how far the run came; the exit code, where it is not 0."""
        run_dir, step = self._config.run_dir, self.step
        is_done = step == self._config.steps
        not_saved = self._saver.failure
        if self._is_in_trouble:
            not_saved = f"step {step} is not saved, since the last steps had no update"
        then = f"the same command goes on from {'the newest checkpoint' if not_saved else 'there'}"
        if not is_done:
            who = request.reason or "another rank was"
            saved = not_saved or f"saved step {step} of {self._config.steps}"
            line = f"told to stop ({who}); {saved}; {then}"
        elif not_saved:
            line = f"error: {not_saved}; {then}"
        else:
            line = f"done; {checkpoint_folder(run_dir, step)}"
        if self._place.rank == 0:
            print(f"{run_dir}: {line}", file=sys.stderr)
        if not is_done:
            raise SystemExit(request.exit_code)
        if not_saved:
            raise SystemExit(1)

    def _prepare_folder(self) -> None:
        run_dir = self._config.run_dir
        run_dir.mkdir(parents=True, exist_ok=True)
        write_durably(run_dir / CONFIG, self._config.to_yaml())
        write_durably(run_dir / DS_CONFIG, json.dumps(self._ds_config, indent=2) + "\n")
        for name in RECORDS:
            drop_records_after(run_dir / name, self.step)

    def _due(self, every: int) -> bool:
        return self.step == self._config.steps or (every > 0 and self.step % every == 0)

    def _progress(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "samples": self.step * self._config.batch.global_size,
            "tokens": int(self._tokens),
            "num_skipped": self._guard.num_skipped,
        }

    def _meet_refusal(self, result: StepResult, log: RunLog | None) -> None:
        """A step had no update: write down why, then stop, go on, or go back."""
        self._saver.wait()
        response = respond(self._config, self._guard.num_skipped_in_a_row, self._place)
        record = incident_record(self.step, result, self._data, self._place)
        record |= {"action": response.action, "then": response.why}
        if response.back_to:
            record["back_to"] = step_of(response.back_to)
            self._go_back(response.back_to)
        if log:
            log.record_incident(record)
        if response.action == "stop":
            raise UserError(
                f"{self._config.run_dir}: step {self.step}: {result.refusal}, {response.why}; go on with a "
                "lower optimizer.lr or optimizer.grad_clip, or with on_nonfinite=skip or rollback "
                "(nonfinite.jsonl names the sequences)"
            )

    def _go_back(self, checkpoint: Path) -> None:
        """To the parameters and the optimizer of a checkpoint, but on with the data of the next step."""
        then = self._restore(checkpoint)
        renew_working_weights(self.engine)
        # The steps since then, whose updates are undone, and this one.
        self._guard.num_skipped = then.guard["num_skipped"] + self.step - then.step

    def _validate(self, log: RunLog | None) -> None:
        assert self._held_out is not None
        record = validation_record(self.engine, self._held_out, self.step, self._place)
        if log:
            log.record_validation(record)

    def manifest(self) -> CheckpointManifest:
        """What a checkpoint says of the present step, before it has files."""
        return CheckpointManifest(
            step=self.step,
            tokens=int(self._tokens),
            config=self._config.to_dict(),
            model=self._model_recipe,
            rule=self._rule.state_dict(),
            guard=self._guard.state_dict(),
            optimizer=optimizer_progress(self.engine),
            world_size=self._place.world_size,
            zero_stage=self.engine.zero_optimization_stage(),
            files={},
        )

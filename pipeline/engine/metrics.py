"""What a run says while it trains: metrics.jsonl, TensorBoard, W&B and the screen."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_prep.errors import one_line
from pipeline.config import RunConfig
from pipeline.data.interface import LossTerms
from pipeline.engine.board import Board
from pipeline.engine.health import TaskHealth
from pipeline.engine.profiling import ProfileWindow
from pipeline.engine.records import METRICS, NONFINITE, RECORDS, VALIDATION, WARNINGS, Records, incident_line
from pipeline.engine.step import StepResult
from pipeline.engine.wandb_run import WandbRun

TENSORBOARD = "tensorboard"
PROFILE = "profile"
_LOGGERS = ("task_kernels", "pipeline.models")
"""Of what tells once how it is computed: the loss, attention."""


class RunLog:
    """Writes the records of a run, going on after `first_step` steps; used on rank 0 alone.

    Raises:
        UserError: W&B is asked for and refuses.
    """

    def __init__(self, config: RunConfig, terms: LossTerms, device: torch.device, first_step: int) -> None:
        folder = config.run_dir
        self._name = config.name
        self._wandb = WandbRun(config) if config.log.wandb else None
        self._told: set[str] = set()
        self._records = {name: Records(folder / name) for name in RECORDS}
        self._board = self._open_board(folder / TENSORBOARD, terms, first_step)
        self._health = TaskHealth(terms, config.log, config.objective, device)
        window = config.profile.steps
        self._profile = ProfileWindow(folder / PROFILE, window, first_step, device) if window else None
        on_screen = sys.stderr.isatty()
        self._bar = tqdm(
            total=config.steps, initial=first_step, desc=self._name, unit=" steps", disable=not on_screen
        )
        self._choices = _Lines(self._name)
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
            logging.getLogger(name).addHandler(self._choices)
        self._started = time.perf_counter()
        self._first_step = first_step

    def step_done(self, result: StepResult) -> None:
        """A step is over: advance the progress bar, and look at its tasks."""
        self._bar.update()
        self._health.step_done(result)
        if self._profile:
            self._tell_profile(self._profile.step_done)

    def record(self, record: dict[str, Any]) -> None:
        """Write a line of training metrics, and warnings where one is due."""
        self._append(METRICS, record)
        self._draw(Board.draw, record)
        if self._wandb:
            self._wandb.log("train", record)
        self._bar.set_postfix_str(f"loss {_figure(record['loss'])}, worst {record['worst_task']}")
        if self._bar.disable:
            self._print_line(record)
        for warning in self._health.warnings(record["step"]):
            self._append(WARNINGS, {"step": record["step"], "warning": warning})
            self._say(f"warning: {warning}")

    def record_validation(self, record: dict[str, Any]) -> None:
        """Write a line of held-out metrics."""
        self._append(VALIDATION, record)
        self._draw(Board.draw_validation, record)
        if self._wandb:
            self._wandb.log("validation", record)
        if record["worst_task"] is None:
            line = "too few held-out predictions to judge any task"
        else:
            worst = f"worst {record['worst_task']} {record['worst_loss']:.3f}"
            line = f"held-out average {record['average_loss']:.3f}, {worst}"
        self._say(f"step {record['step']}, {line}")

    def record_incident(self, record: dict[str, Any]) -> None:
        """Write down a step whose update was not made."""
        self._append(NONFINITE, record)
        self._say(f"warning: {incident_line(record)}")

    def close(self) -> None:
        """Flush everything."""
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(self._choices)
        self._bar.close()
        for name, records in self._records.items():
            try:
                records.flush()
            except OSError as error:
                self._say(f"warning: {name} lacks {records.num_waiting} lines ({one_line(error)})")
        if self._profile:
            self._tell_profile(self._profile.close)
        try:
            if self._board:
                self._board.close()
        except OSError as error:
            self._warn(TENSORBOARD, error)
        if self._wandb:
            self._wandb.close()

    def _open_board(self, folder: Path, terms: LossTerms, first_step: int) -> Board | None:
        try:
            return Board(folder, terms.tasks, first_step)
        except OSError as error:
            self._warn(TENSORBOARD, error)
            return None

    def _draw(self, draw: Callable[[Board, dict[str, Any]], None], record: dict[str, Any]) -> None:
        try:
            if self._board:
                draw(self._board, record)
        except OSError as error:
            self._warn(TENSORBOARD, error)

    def _append(self, name: str, record: dict[str, Any]) -> None:
        try:
            self._records[name].append(record)
            self._told.discard(name)
        except OSError as error:
            self._warn(name, error)

    def _tell_profile(self, look: Callable[[], Path | None]) -> None:
        try:
            path = look()
        except OSError as error:
            self._say(f"warning: the profile cannot be written ({one_line(error)})")
            return
        if path:
            self._say(f"profiled: {path}, for ui.perfetto.dev, and a table beside it")

    def _warn(self, name: str, error: OSError) -> None:
        """A log that cannot be written is no reason to stop; said once, until it can be."""
        if name not in self._told:
            self._told.add(name)
            what = "it draws no more" if name == TENSORBOARD else "its lines wait in memory"
            self._say(f"warning: {name} cannot be written ({one_line(error)}); {what}")

    def _say(self, message: str) -> None:
        tqdm.write(f"{self._name}: {message}", file=sys.stderr)

    def _print_line(self, record: dict[str, Any]) -> None:
        done = record["step"] - self._first_step
        left = (self._bar.total - record["step"]) * (time.perf_counter() - self._started) / max(done, 1)
        tasks = ""
        if record["worst_task"] is not None:
            worst = f"worst {record['worst_task']} {_figure(record['worst_loss'])}"
            tasks = f"average {_figure(record['average_loss'])}, {worst}, "
        print(
            f"{self._name}: step {record['step']}/{self._bar.total}, loss {_figure(record['loss'])}, "
            f"{tasks}{record['tokens_per_s']:,.0f} tokens/s, {tqdm.format_interval(left)} left",
            file=sys.stderr,
            flush=True,
        )


class _Lines(logging.Handler):
    """Log records as lines of the run, above its progress bar."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.INFO)
        self._name = name

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"{self._name}: {record.getMessage()}", file=sys.stderr)


def _figure(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.3f}"

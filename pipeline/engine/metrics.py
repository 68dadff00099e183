"""What a run says while it trains: metrics.jsonl, TensorBoard and the screen."""

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data_prep.errors import one_line
from pipeline.data.interface import LossTerms
from pipeline.engine.records import Records
from pipeline.engine.step import StepResult

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
NONFINITE = "nonfinite.jsonl"
RECORDS = (METRICS, VALIDATION, NONFINITE)
_LOSSES = ("loss", "average_loss", "worst_loss")
_SCALARS = (*_LOSSES, "lr", "grad_norm", "step_time_s", "data_wait_s", "tokens_per_s")


class RunLog:
    """Writes the records of a run, going on after `first_step` steps; used on rank 0 alone."""

    def __init__(self, folder: Path, first_step: int, num_steps: int) -> None:
        self._name = folder.name
        self._told: set[str] = set()
        self._records = {name: Records(folder / name) for name in RECORDS}
        self._board = self._open_board(folder / "tensorboard", first_step)
        on_screen = sys.stderr.isatty()
        self._bar = tqdm(
            total=num_steps, initial=first_step, desc=folder.name, unit=" steps", disable=not on_screen
        )
        self._kernel_lines = _Lines(folder.name)
        logging.getLogger("task_kernels").setLevel(logging.INFO)
        logging.getLogger("task_kernels").addHandler(self._kernel_lines)
        self._started = time.perf_counter()
        self._first_step = first_step

    def step_done(self) -> None:
        """Advance the progress bar."""
        self._bar.update()

    def record(self, record: dict[str, Any]) -> None:
        """Write a line of training metrics."""
        self._append(METRICS, record)
        scalars = {f"train/{name}": record[name] for name in _SCALARS}
        for name in ("task_loss", "task_weight", "task_count"):
            scalars |= {f"{name}/{task}": value for task, value in record[name].items()}
        self._draw(scalars, record["step"])
        self._bar.set_postfix_str(f"loss {_figure(record['loss'])}, worst {record['worst_task']}")
        if self._bar.disable:
            self._print_line(record)

    def record_validation(self, record: dict[str, Any]) -> None:
        """Write a line of held-out metrics."""
        self._append(VALIDATION, record)
        scalars = {f"validation_loss/{task}": loss for task, loss in record["task_loss"].items()}
        if record["worst_task"] is None:
            line = "too few held-out predictions to judge any task"
        else:
            scalars |= {f"validation/{name}": record[name] for name in ("average_loss", "worst_loss")}
            worst = f"worst {record['worst_task']} {record['worst_loss']:.3f}"
            line = f"held-out average {record['average_loss']:.3f}, {worst}"
        self._draw(scalars, record["step"])
        self._say(f"step {record['step']}, {line}")

    def record_incident(self, record: dict[str, Any], then: str) -> None:
        """Write down a step whose update was not made, and say what becomes of the run then."""
        self._append(NONFINITE, record)
        at_fault = f" ({', '.join(record['tasks'])})" if record["tasks"] else ""
        self._say(f"warning: step {record['step']}: {record['reason']}{at_fault}; {then}")

    def close(self) -> None:
        """Flush everything."""
        logging.getLogger("task_kernels").removeHandler(self._kernel_lines)
        self._bar.close()
        for name, records in self._records.items():
            try:
                records.flush()
            except OSError as error:
                self._say(f"warning: {name} lacks {records.num_waiting} lines ({one_line(error)})")
        try:
            if self._board:
                self._board.close()
        except OSError as error:
            self._warn("tensorboard", error)

    def _open_board(self, folder: Path, first_step: int) -> SummaryWriter | None:
        try:
            return SummaryWriter(str(folder), purge_step=first_step + 1)
        except OSError as error:
            self._warn("tensorboard", error)
            return None

    def _append(self, name: str, record: dict[str, Any]) -> None:
        try:
            self._records[name].append(record)
            self._told.discard(name)
        except OSError as error:
            self._warn(name, error)

    def _draw(self, scalars: dict[str, float | None], step: int) -> None:
        try:
            for name, value in scalars.items():
                if self._board and value is not None:
                    self._board.add_scalar(name, value, step)
        except OSError as error:
            self._warn("tensorboard", error)

    def _warn(self, name: str, error: OSError) -> None:
        """A log that cannot be written is no reason to stop; said once, until it can be."""
        if name not in self._told:
            self._told.add(name)
            what = "it draws no more" if name == "tensorboard" else "its lines wait in memory"
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


def training_record(result: StepResult, terms: LossTerms) -> dict[str, Any]:
    """The losses, weights and counts of a step as plain numbers.

    An absent task has no loss, not loss 0. What is not a finite number is None, and the worst task is the
    first without a finite loss then.
    """
    counts = result.counts
    losses = result.sums / counts.clamp(min=1)
    weights = result.coefficients
    on_host = torch.stack([losses, weights, counts.to(losses.dtype)]).cpu()
    loss, weight, count = (dict(zip(terms.names, row.tolist(), strict=True)) for row in on_host)
    present = {name: loss[name] for name in terms.names if count[name] > 0}
    tasks = {name: present[name] for name in terms.tasks if name in present}
    worst = max(tasks, key=lambda name: _infinite_unless_finite(tasks[name]), default=None)
    return {
        "loss": _number(sum(weight[name] * present[name] for name in present)),
        "average_loss": _number(sum(tasks.values()) / len(tasks)) if tasks else None,
        "worst_task": worst,
        "worst_loss": _number(tasks[worst]) if worst is not None else None,
        "grad_norm": _number(float(result.grad_norm)),
        "task_loss": {name: _number(value) for name, value in present.items()},
        "task_weight": {name: _number(value) for name, value in weight.items()},
        "task_count": {name: int(value) for name, value in count.items()},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _infinite_unless_finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _figure(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.3f}"

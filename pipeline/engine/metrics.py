"""What a run says while it trains: metrics.jsonl, TensorBoard and the screen."""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data_prep.durable import write_durably
from pipeline.data.interface import LossTerms
from pipeline.engine.step import StepResult

METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
_LOSSES = ("loss", "average_loss", "worst_loss")
_SCALARS = (*_LOSSES, "lr", "grad_norm", "step_time_s", "data_wait_s", "tokens_per_s")


class RunLog:
    """Writes the records of a run, going on after `first_step` steps; used on rank 0 alone."""

    def __init__(self, folder: Path, first_step: int, num_steps: int) -> None:
        self._folder = folder
        for name in (METRICS, VALIDATION):
            drop_records_after(folder / name, first_step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
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
        append_line(self._folder / METRICS, record)
        step = record["step"]
        for name in _SCALARS:
            if record[name] is not None:
                self._board.add_scalar(f"train/{name}", record[name], step)
        for name in ("task_loss", "task_weight", "task_count"):
            for task, value in record[name].items():
                self._board.add_scalar(f"{name}/{task}", value, step)
        self._bar.set_postfix_str(f"loss {record['loss']:.3f}, worst {record['worst_task']}")
        if self._bar.disable:
            self._print_line(record)

    def record_validation(self, record: dict[str, Any]) -> None:
        """Write a line of held-out metrics."""
        append_line(self._folder / VALIDATION, record)
        for task, loss in record["task_loss"].items():
            self._board.add_scalar(f"validation_loss/{task}", loss, record["step"])
        if record["worst_task"] is None:
            line = "too few held-out predictions to judge any task"
        else:
            for name in ("average_loss", "worst_loss"):
                self._board.add_scalar(f"validation/{name}", record[name], record["step"])
            worst = f"worst {record['worst_task']} {record['worst_loss']:.3f}"
            line = f"held-out average {record['average_loss']:.3f}, {worst}"
        tqdm.write(f"{self._folder.name}: step {record['step']}, {line}", file=sys.stderr)

    def close(self) -> None:
        """Flush everything."""
        logging.getLogger("task_kernels").removeHandler(self._kernel_lines)
        self._bar.close()
        self._board.close()

    def _print_line(self, record: dict[str, Any]) -> None:
        done = record["step"] - self._first_step
        left = (self._bar.total - record["step"]) * (time.perf_counter() - self._started) / max(done, 1)
        tasks = ""
        if record["worst_task"] is not None:
            worst = f"worst {record['worst_task']} {record['worst_loss']:.3f}"
            tasks = f"average {record['average_loss']:.3f}, {worst}, "
        print(
            f"{self._folder.name}: step {record['step']}/{self._bar.total}, loss {record['loss']:.3f}, "
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
    """The losses, weights and counts of a step as plain numbers; an absent task has no loss, not loss 0."""
    counts = result.counts
    losses = result.sums / counts.clamp(min=1)
    weights = result.coefficients
    on_host = torch.stack([losses, weights, counts.to(losses.dtype)]).cpu()
    loss, weight, count = (dict(zip(terms.names, row.tolist(), strict=True)) for row in on_host)
    present = {name: loss[name] for name in terms.names if count[name] > 0}
    tasks = {name: present[name] for name in terms.tasks if name in present}
    worst = max(tasks, key=lambda name: tasks[name], default=None)
    return {
        "loss": sum(weight[name] * present[name] for name in present),
        "average_loss": sum(tasks.values()) / len(tasks) if tasks else None,
        "worst_task": worst,
        "worst_loss": tasks[worst] if worst is not None else None,
        "grad_norm": float(result.grad_norm),
        "task_loss": present,
        "task_weight": weight,
        "task_count": {name: int(value) for name, value in count.items()},
    }


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def drop_records_after(path: Path, step: int) -> None:
    """Keep the records up to `step`: a run that goes on from a checkpoint writes the later ones again."""
    if not path.is_file():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    write_durably(path, "".join(kept))

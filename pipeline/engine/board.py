"""The charts of a run in TensorBoard."""

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

_OF_RUN = {
    "train": ("loss", "average_loss", "worst_loss", "lr", "muon_lr", "grad_norm"),
    "weights": ("weight_entropy", "num_effective_tasks"),
    "speed": ("step_time_s", "data_wait_s", "tokens_per_s", "tflops_per_s", "mfu"),
    "memory": ("host_memory_bytes", "device_memory_bytes"),
}
"""Group of charts → figures of a line of metrics, a chart each."""
_OF_TASKS = {"loss": "task_loss", "weight": "task_weight", "count": "task_count"}
"""Chart → map of a line of metrics, a line in the chart for each task."""


class Board:
    """Writes event files that show all tasks in one chart.

    TensorBoard gives a line its colour and its name by the run that it belongs to, and puts the runs that
    have a chart of the same name into one. So each task is a run, in a folder of its own below the run's.

    Args:
        folder: where the event files go.
        tasks: the tasks of the objective; other loss terms are charts of the run.
        first_step: charts of a run that went further before are cut after this step.
    """

    def __init__(self, folder: Path, tasks: Iterable[str], first_step: int) -> None:
        self._writers = ExitStack()
        self._run = self._open(folder, first_step)
        self._tasks = {task: self._open(folder / task, first_step) for task in tasks}

    def draw(self, record: dict[str, Any]) -> None:
        """A line of training metrics.

        Raises:
            OSError: the disk has no room.
        """
        step = record["step"]
        for group, names in _OF_RUN.items():
            for name in names:
                _point(self._run, f"{group}/{name}", record.get(name), step)
        for chart, name in _OF_TASKS.items():
            self._draw_terms(chart, "train", record[name], step)
        for task, writer in self._tasks.items():
            _point(writer, "task/is_worst", float(task == record["worst_task"]), step)

    def draw_validation(self, record: dict[str, Any]) -> None:
        """A line of held-out metrics.

        Raises:
            OSError: the disk has no room.
        """
        step = record["step"]
        for name in ("average_loss", "worst_loss"):
            _point(self._run, f"validation/{name}", record[name], step)
        for chart, name in (("validation_loss", "task_loss"), ("validation_accuracy", "task_accuracy")):
            self._draw_terms(chart, "validation", record[name], step)

    def close(self) -> None:
        """Flush everything.

        Raises:
            OSError: the disk has no room.
        """
        self._writers.close()

    def _open(self, folder: Path, first_step: int) -> SummaryWriter:
        writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        self._writers.callback(writer.close)
        return writer

    def _draw_terms(self, chart: str, group: str, values: dict[str, float | None], step: int) -> None:
        for name, value in values.items():
            if name in self._tasks:
                _point(self._tasks[name], f"task/{chart}", value, step)
            else:
                _point(self._run, f"{group}/{name}_{chart.removeprefix('validation_')}", value, step)


def _point(writer: SummaryWriter, chart: str, value: float | None, step: int) -> None:
    if value is not None:
        writer.add_scalar(chart, value, step)

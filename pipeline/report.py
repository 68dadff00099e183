"""Held-out figures of one or several checkpoints, as a table and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from pipeline.evaluation import Estimate, TaskFigures, average_loss, worst_task


@dataclass(frozen=True)
class CheckpointReport:
    """The held-out figures of a checkpoint: of the tasks, and of terms that are no task."""

    checkpoint: Path
    run: str
    step: int
    tasks: dict[str, TaskFigures]
    others: dict[str, TaskFigures]


@dataclass(frozen=True)
class Comparison:
    """Checkpoints scored on the same held-out words."""

    data: Path
    split: str
    mask_hash: str
    unigram: dict[str, float]
    reports: list[CheckpointReport]

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values; losses in nats, intervals at 95 %."""
        return {
            "data": str(self.data),
            "split": self.split,
            "mask_hash": self.mask_hash,
            "unigram_loss": self.unigram,
            "checkpoints": [
                {
                    "checkpoint": str(report.checkpoint),
                    "run": report.run,
                    "step": report.step,
                    "worst_task": worst_task(report.tasks),
                    "worst_loss": _worst_loss(report),
                    "average_loss": average_loss(report.tasks),
                    "tasks": {name: _plain(figures) for name, figures in report.tasks.items()},
                    "others": {name: _plain(figures) for name, figures in report.others.items()},
                }
                for report in self.reports
            ],
        }

    def to_table(self) -> Table:
        """A row per task, then the worst and the average."""
        table = Table(
            "task",
            title=f"Held-out loss in nats and accuracy in %, {self.split} split of {self.data}",
            caption="±: half a 95 % interval over documents, where there are 10 or more",
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
            collapse_padding=True,
        )
        for column in ("pieces", "unigram\nloss"):
            table.add_column(column, justify="right", no_wrap=True)
        for report in self.reports:
            same_run = sum(other.run == report.run for other in self.reports) > 1
            header = f"{report.run} at {report.step:,}" if same_run else report.run
            table.add_column(f"{header}\nloss", justify="right", no_wrap=True)
            table.add_column("\naccuracy", justify="right", no_wrap=True)
        for name, figures in self.reports[0].tasks.items():
            row = [name, f"{figures.count:,}", f"{self.unigram[name]:.2f}"]
            table.add_row(*row, *self._cells("tasks", name), style=None if figures.judged else "dim")
        table.add_section()
        worst = [worst_task(report.tasks) for report in self.reports]
        table.add_row("worst task", "", "", *_loss_cells([name or "none" for name in worst]), style="bold")
        losses = [_worst_loss(report) for report in self.reports]
        table.add_row("worst loss", "", "", *_loss_cells(map(_two_digits, losses)), style="bold")
        averages = [average_loss(report.tasks) for report in self.reports]
        unigram = _two_digits(self._average_unigram())
        table.add_row("average loss", "", unigram, *_loss_cells(map(_two_digits, averages)), style="bold")
        for name in {name: None for report in self.reports for name in report.others}:
            table.add_row(name, self._count("others", name), "", *self._cells("others", name))
        return table

    def remarks(self) -> list[str]:
        """What a reader must know beside the table: tasks left out, tasks that do not beat their unigram."""
        remarks = []
        first = self.reports[0].tasks
        few = [f"{name} ({figures.count})" for name, figures in first.items() if not figures.judged]
        if few:
            remarks.append(
                f"Too few held-out pieces to judge, left out of worst and average: {', '.join(few)}."
            )
        for report in self.reports:
            judged = {name: f.loss.value for name, f in report.tasks.items() if f.judged}
            ahead = [name for name, loss in judged.items() if loss < self.unigram[name]]
            behind = [name for name in judged if name not in ahead]  # a loss that is no number too
            for verb, names in (("beats", ahead), ("does not beat", behind)):
                if names:
                    remarks.append(f"{report.run} {verb} the unigram distribution of: {', '.join(names)}.")
        return remarks

    def _average_unigram(self) -> float | None:
        judged = [self.unigram[name] for name, figures in self.reports[0].tasks.items() if figures.judged]
        return sum(judged) / len(judged) if judged else None

    def _cells(self, group: str, name: str) -> list[str]:
        cells = []
        for report in self.reports:
            figures: TaskFigures | None = getattr(report, group).get(name)
            cells += [_cell(figures.loss, 1, 2), _cell(figures.accuracy, 100, 0)] if figures else ["", ""]
        return cells

    def _count(self, group: str, name: str) -> str:
        counts = (getattr(report, group).get(name) for report in self.reports)
        return next(f"{figures.count:,}" for figures in counts if figures is not None)


def _worst_loss(report: CheckpointReport) -> float | None:
    worst = worst_task(report.tasks)
    return report.tasks[worst].loss.value if worst else None


def _plain(figures: TaskFigures) -> dict[str, Any]:
    return {**asdict(figures), "judged": figures.judged}


def _cell(estimate: Estimate, unit: float, digits: int) -> str:
    value = f"{unit * estimate.value:.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ±{unit * (estimate.high - estimate.low) / 2:.{digits}f}"


def _two_digits(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _loss_cells(losses: Iterable[str]) -> list[str]:
    """A figure in every loss column, none in the accuracy columns."""
    return [cell for loss in losses for cell in (loss, "")]

"""Making of a file for `data.tasks`, and what is shown of its tasks."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError
from rich.console import Console

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import MANIFEST
from pipeline.data.shards import Shards
from pipeline.data.task_file import ByPiece, ByShardTask, Making, TaskFile, first_mistake, write_task_file
from pipeline.data.word_tasks import WordTasks, read_word_tasks
from pipeline.tasks.clusters import curve_tasks
from pipeline.tasks.drawn import draw_tasks
from pipeline.tasks.loss_curves import LossCurves, measure_loss_curves
from pipeline.tasks.merged import Merged, merge
from pipeline.tasks.table import Columns, tasks_table


@dataclass(frozen=True)
class MadeTasks:
    """New tasks, and what is to be told about each of them beside what it is made of."""

    method: str
    names: list[str]
    assignment: ByShardTask | ByPiece
    settings: dict[str, JsonValue]
    columns: Columns
    remark: str


class TaskMaker:
    """Makes tasks from shards.

    Args:
        folder: of the shards, whose training sequences are counted.
    """

    def __init__(self, folder: Path) -> None:
        self.shards = Shards(folder)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """[T, V] how often each piece stands in a word of each of the shards' tasks."""
        counts = self.shards.piece_counts()
        if not counts.any():
            raise UserError(
                f"{self.shards.folder}: no training sequence holds a word of a task; prepare more text"
            )
        return counts

    def merged(self, parts: Merged) -> MadeTasks:
        """Several of the shards' tasks in one."""
        assignment = merge(parts, self.shards.task_names)
        settings: dict[str, JsonValue] = {"tasks": {task: list(members) for task, members in parts.items()}}
        return MadeTasks("merge", list(parts), assignment, settings, {}, "")

    def random(self, seed: int, sizes_of: Path | None) -> MadeTasks:
        """Pieces drawn into tasks as large as those of a file, or the shards', that have a label."""
        own = WordTasks.of_shards(self.shards)
        given = read_word_tasks(sizes_of, self.shards, "--sizes-of") if sizes_of else own
        sizes = given.regrouped(self.counts).sum(axis=1)
        like = [name for name, size in zip(given.names, sizes, strict=True) if size]
        sizes = sizes[sizes > 0]
        labels = self.counts.sum(axis=0)
        tasks = draw_tasks(labels, sizes, seed)
        reached = np.bincount(tasks, labels, len(sizes))
        wanted = [f"{share:.2%}".rstrip("%") for share in sizes / sizes.sum()]
        furthest = np.abs(reached - sizes).max() / sizes.sum()
        settings: dict[str, JsonValue] = {"seed": seed, "sizes_of": list(like)}
        if sizes_of:
            settings |= {"sizes_of_file": str(sizes_of), "sizes_of_sha256": given.sha256}
        return MadeTasks(
            "random",
            [f"random_{number}" for number in range(1, len(sizes) + 1)],
            ByPiece(task_of=tasks.tolist()),
            settings,
            {"wanted, %": wanted, "as much as": like},
            f"Furthest from a wanted share: {furthest:.4%} of all labels.",
        )

    def from_loss_curves(self, run: Path, num_tasks: int, num_sequences: int, seed: int) -> MadeTasks:
        """Pieces that a run learned alike."""
        curves = measure_loss_curves(run, self.shards, num_sequences, seed)
        tasks = curve_tasks(curves, self.counts.sum(axis=0), num_tasks, seed)
        steps = list(curves.checkpoints)
        checkpoints: dict[str, JsonValue] = {str(step): made for step, made in curves.checkpoints.items()}
        return MadeTasks(
            "loss-curves",
            [f"group_{number}" for number in range(1, num_tasks + 1)],
            ByPiece(task_of=tasks.tolist()),
            {
                "run": str(run),
                "checkpoints": checkpoints,
                "num_sequences": curves.num_sequences,
                "seed": seed,
            },
            {
                f"loss, step {steps[0]:,}": _losses(curves, tasks, num_tasks, 0),
                f"step {steps[-1]:,}": _losses(curves, tasks, num_tasks, -1),
            },
            f"Of {curves.counts.sum():,} masked pieces in {curves.num_sequences:,} training sequences, at "
            f"{len(steps)} checkpoints.",
        )

    def write(self, made: MadeTasks, out: Path) -> None:
        """Write the file, and print what the tasks are made of.

        Raises:
            UserError: a task that no piece is left for, or whose name is not allowed.
        """
        if isinstance(made.assignment, ByPiece):
            for index in set(range(len(made.names))).difference(made.assignment.task_of):
                raise UserError(f"{made.names[index]}: no piece is left for it; there are too few pieces")
        content = self._content(made)
        write_task_file(out, content)
        tasks = WordTasks.of_file(content, shards=self.shards)
        table = tasks_table(tasks, self.counts, self.shards, made.columns)
        natural_width = Console(width=1_000).measure(table).maximum
        console = Console(width=max(Console().width, natural_width), highlight=False)
        console.print(table)
        console.print(f"{made.remark} {out}: {len(made.names)} tasks, for data.tasks".strip())

    def _content(self, made: MadeTasks) -> TaskFile:
        shards_sha256 = sha256_file(self.shards.folder / MANIFEST)
        try:
            return TaskFile(
                task_names=made.names,
                tokenizer_sha256=self.shards.manifest.tokenizer.sha256,
                made=Making(method=made.method, settings=made.settings, shards_sha256=shards_sha256),
                assignment=made.assignment,
            )
        except ValidationError as error:
            raise UserError(first_mistake(error)) from error


def _losses(curves: LossCurves, tasks: NDArray[np.int64], num_tasks: int, checkpoint: int) -> list[str]:
    """Mean nats of each task."""
    sums = np.bincount(tasks, curves.losses[:, checkpoint], num_tasks)
    counts = np.bincount(tasks, curves.counts, num_tasks)
    pairs = zip(sums, counts, strict=True)
    return [f"{total / number:.2f}" if number else "" for total, number in pairs]

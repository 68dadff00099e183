"""What tasks are made of: their share of the labels, the shards' tasks in them, their pieces."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.data.shards import Shards
from pipeline.data.word_tasks import WordTasks

_NUM_SHARD_TASKS = 3
_NUM_PIECES = 10

Columns = Mapping[str, list[str]]
"""Title → a cell for each task."""


def tasks_table(tasks: WordTasks, counts: NDArray[np.int64], shards: Shards, columns: Columns) -> Table:
    """A row per task.

    Args:
        tasks: the tasks.
        counts: [T, V] how often each piece is a label by the shards' tasks.
        shards: which have their names, and those of the pieces.
        columns: what is to be told beside it.
    """
    table = Table("task", box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("labels, %", *columns):
        table.add_column(title, justify="right")
    table.add_column(f"tasks of the shards (top {_NUM_SHARD_TASKS})")
    table.add_column("most frequent pieces")
    of_task = [_labels_of(tasks, counts, index) for index in range(len(tasks.names))]
    for index, (name, labels) in enumerate(zip(tasks.names, of_task, strict=True)):
        share = labels.sum() / counts.sum()
        cells = [name, f"{share:.2%}".rstrip("%"), *(cell[index] for cell in columns.values())]
        table.add_row(*cells, _shard_tasks(labels, shards), _pieces(labels, shards))
    return table


def _labels_of(tasks: WordTasks, counts: NDArray[np.int64], index: int) -> NDArray[np.int64]:
    """[T, V] the labels of one task."""
    belongs = tasks.table == index
    return counts * (belongs if tasks.by_piece else belongs[:, None])


def _shard_tasks(labels: NDArray[np.int64], shards: Shards) -> str:
    by_task = labels.sum(axis=1)
    largest = by_task.argsort(kind="stable")[::-1][:_NUM_SHARD_TASKS]
    shares = by_task / max(1, labels.sum())
    return ", ".join(f"{shards.task_names[task]} {shares[task]:.0%}" for task in largest if by_task[task])


def _pieces(labels: NDArray[np.int64], shards: Shards) -> str:
    by_piece = labels.sum(axis=0)
    most = by_piece.argsort(kind="stable")[::-1][:_NUM_PIECES]
    named = (shards.tokenizer.id_to_token(int(piece)) for piece in most if by_piece[piece])
    return escape(" ".join(piece for piece in named if piece))

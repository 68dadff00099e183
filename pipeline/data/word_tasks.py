"""Which task a masked piece belongs to in training: the shards' own, or that of a file.

Held-out splits know nothing of it: they are always judged by the shards' tasks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.durable import sha256_file
from data_prep.errors import UserError, nearest
from data_prep.schema import NO_TASK
from pipeline.config import DataConfig, RunConfig
from pipeline.data.shards import Shards
from pipeline.data.task_file import ByShardTask, TaskFile, read_task_file
from pipeline.paths import refuse_no_task_file


@dataclass(frozen=True)
class WordTasks:
    """The masked-word tasks of training, and the task of each masked piece that has one in the shards.

    `table` gives the task by the shards' task [T], or by vocabulary id [V] where it is `by_piece`. `sha256`
    is that of the file; the shards' own tasks have none.
    """

    names: list[str]
    table: NDArray[np.int64]
    by_piece: bool
    sha256: str | None = None

    @classmethod
    def of_shards(cls, shards: Shards) -> "WordTasks":
        """The shards' own."""
        return cls(shards.task_names, np.arange(len(shards.task_names)), by_piece=False)

    @classmethod
    def of_file(cls, content: TaskFile, sha256: str | None = None, *, shards: Shards) -> "WordTasks":
        """Those of a file that fits the shards."""
        if isinstance(content.assignment, ByShardTask):
            names = [content.assignment.task_of[task] for task in shards.task_names]
            table = np.array([content.task_names.index(name) for name in names], np.int64)
            return cls(content.task_names, table, by_piece=False, sha256=sha256)
        return cls(content.task_names, np.array(content.assignment.task_of, np.int64), True, sha256)

    @property
    def are_the_shards(self) -> bool:
        """Whether these are the shards' own tasks, by which held-out splits are judged."""
        return self.sha256 is None

    def loss_terms(self, pieces: NDArray, shard_tasks: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The loss terms [n] of masked pieces; the one after the tasks where they have none in the shards.

        Args:
            pieces: [n] vocabulary ids.
            shard_tasks: [n] their tasks in the shards, or NO_TASK.
        """
        has_task = shard_tasks != NO_TASK
        keys = pieces if self.by_piece else np.where(has_task, shard_tasks, 0)
        return np.where(has_task, self.table[keys], len(self.names)).astype(np.int64)

    def regrouped(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """[tasks, V] how often each piece stands in each task, from how often by the shards' tasks [T, V]."""
        result = np.zeros((len(self.names), counts.shape[1]), np.int64)
        if self.by_piece:
            result[self.table, np.arange(counts.shape[1])] = counts.sum(axis=0)
        else:
            np.add.at(result, self.table, counts)
        return result


def word_tasks(data: DataConfig, shards: Shards) -> WordTasks:
    """The tasks that a run file trains on.

    Raises:
        UserError: the file is not there, is malformed, was altered, or does not fit the shards.
    """
    if data.tasks is None:
        return WordTasks.of_shards(shards)
    tasks = read_word_tasks(data.tasks, shards)
    _refuse_altered(data, tasks.sha256)
    return tasks


def read_word_tasks(path: Path, shards: Shards, key: str = "data.tasks") -> WordTasks:
    """The tasks of a file, which the user named by `key`.

    Raises:
        UserError: the file is not there, is malformed, or does not fit the shards.
    """
    content = read_task_file(path, key)
    _refuse_other_shards(content, f"{key}: {path}", shards)
    return WordTasks.of_file(content, sha256_file(path), shards=shards)


def with_hash_of_tasks(config: RunConfig) -> RunConfig:
    """The run file with `data.tasks_sha256`, by which a run that goes on knows its tasks again.

    Raises:
        UserError: the file is not there, or is another one than the hash says.
    """
    if config.data.tasks is None:
        return config
    refuse_no_task_file(config.data.tasks)
    found = sha256_file(config.data.tasks)
    _refuse_altered(config.data, found)
    data = config.data.model_copy(update={"tasks_sha256": found})
    return config.model_copy(update={"data": data})


def _refuse_altered(data: DataConfig, found: str | None) -> None:
    if data.tasks_sha256 not in (None, found):
        raise UserError(
            f"data.tasks: {data.tasks}: was altered since data.tasks_sha256 was written down; name the file "
            "of then, or leave data.tasks_sha256 out"
        )


def _refuse_other_shards(content: TaskFile, where: str, shards: Shards) -> None:
    manifest = shards.manifest
    if content.tokenizer_sha256 != manifest.tokenizer.sha256:
        raise UserError(
            f"{where}: made for another tokenizer than that of {shards.folder}; make it from these shards "
            "with pipeline tasks"
        )
    if not isinstance(content.assignment, ByShardTask):
        if len(content.assignment.task_of) != manifest.vocab_size:
            raise UserError(
                f"{where}: tasks of {len(content.assignment.task_of)} pieces, the vocabulary of "
                f"{shards.folder} has {manifest.vocab_size}; make it again with pipeline tasks"
            )
        return
    known, named = shards.task_names, content.assignment.task_of
    for task in named:
        if task not in known:
            raise UserError(f'{where}: "{task}" is no task of {shards.folder}{nearest(task, known)}')
    for task in known:
        if task not in named:
            raise UserError(f'{where}: says nothing of task "{task}" of {shards.folder}')

"""Tasks that are the shards' tasks, several in one."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import UserError, nearest
from pipeline.data.task_file import ByShardTask

Merged = dict[str, list[str]]
"""Task → the shards' tasks that it is made of."""


def read_merge(given: Sequence[str]) -> Merged:
    """What is to be merged: `task=first,second` for each task, or the name of one YAML file of all.

    Raises:
        UserError: neither of the two, or a task that stands there twice.
    """
    if len(given) == 1 and "=" not in given[0]:
        return _of_file(Path(given[0]))
    merged: Merged = {}
    for entry in given:
        task, equals, members = entry.partition("=")
        if not (task and equals and members):
            raise UserError(f'"{entry}" is not of the form task=first,second, nor a single file')
        if task in merged:
            raise UserError(f'task "{task}" stands there twice; name its parts in one')
        merged[task] = [member.strip() for member in members.split(",")]
    return merged


def merge(merged: Merged, shard_tasks: Sequence[str]) -> ByShardTask:
    """The assignment, in which each of the shards' tasks belongs to exactly one task.

    Raises:
        UserError: one belongs to none or to two, or is none of the shards'.
    """
    task_of: dict[str, str] = {}
    for task, members in merged.items():
        for member in members:
            if member not in shard_tasks:
                hint = nearest(member, shard_tasks) or f"; they have {', '.join(shard_tasks)}"
                raise UserError(f'{task}: "{member}" is no task of the shards{hint}')
            if member in task_of:
                raise UserError(f'"{member}" stands in "{task_of[member]}" and in "{task}"; keep one')
            task_of[member] = task
    left = [task for task in shard_tasks if task not in task_of]
    if left:
        raise UserError(f"{', '.join(left)} of the shards stand in no task; add them to one")
    return ByShardTask(task_of=task_of)


def _of_file(path: Path) -> Merged:
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a YAML file, or give task=first,second")
    try:
        return TypeAdapter(Merged).validate_python(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise UserError(f"{path}: not a YAML map from task to a list of the shards' tasks") from error

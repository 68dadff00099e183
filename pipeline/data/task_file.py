"""The file that `data.tasks` names: which task a masked piece belongs to in training."""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue, ValidationError, field_validator, model_validator

from data_prep.durable import write_durably
from data_prep.errors import UserError
from data_prep.schema import NO_TASK, Record
from pipeline.data.text_terms import NSP, UNTAGGED
from pipeline.paths import refuse_no_task_file

_SCHEMA_VERSION = 1
_NAME = re.compile(r"[\w-]+")
_RESERVED = (NSP, UNTAGGED)


class ByShardTask(Record):
    """A piece belongs to the task that takes the place of its task in the shards."""

    by: Literal["shard_task"] = "shard_task"
    task_of: dict[str, str]
    """Each task of the shards → a task."""

    @property
    def used(self) -> set[str]:
        """The tasks that something belongs to."""
        return set(self.task_of.values())


class ByPiece(Record):
    """A piece belongs to one task, whatever its task in the shards."""

    by: Literal["piece"] = "piece"
    task_of: list[int]
    """[V] by vocabulary id, the index of a task in `task_names`."""


class Making(Record):
    """How a file was made, so that it can be made again."""

    method: str
    settings: dict[str, JsonValue]
    shards_sha256: str
    """Hash of the manifest of the shards that it was made from."""


class TaskFile(Record):
    """What the file holds."""

    schema_version: int = _SCHEMA_VERSION
    task_names: list[str]
    tokenizer_sha256: str
    """Of the shards' tokenizer, whose ids the pieces have."""
    made: Making
    assignment: Annotated[ByShardTask | ByPiece, Field(discriminator="by")]

    @field_validator("task_names")
    @classmethod
    def _names_tasks(cls, names: list[str]) -> list[str]:
        if not 1 <= len(names) < NO_TASK:
            raise ValueError(f"{len(names)} tasks; give 1 to {NO_TASK - 1}")
        for name, number in Counter(names).items():
            if number > 1:
                raise ValueError(f'"{name}" stands there twice')
            if name in _RESERVED or not _NAME.fullmatch(name):
                reserved = " or ".join(f'"{name}"' for name in _RESERVED)
                raise ValueError(f'"{name}"; use letters, digits, "_" and "-", but not {reserved}')
        return names

    @model_validator(mode="after")
    def _fills_all_tasks(self) -> "TaskFile":
        if isinstance(self.assignment, ByShardTask):
            unknown = sorted(self.assignment.used - set(self.task_names))
            if unknown:
                raise ValueError(f'assignment.task_of: "{unknown[0]}" is not among task_names')
            used = self.assignment.used
        else:
            indices = set(self.assignment.task_of)
            wrong = sorted(index for index in indices if not 0 <= index < len(self.task_names))
            if wrong:
                raise ValueError(f"assignment.task_of: {wrong[0]} is no index into task_names")
            used = {self.task_names[index] for index in indices}
        unused = [name for name in self.task_names if name not in used]
        if unused:
            raise ValueError(f'nothing belongs to task "{unused[0]}"')
        return self


class _Versioned(BaseModel):
    """What files of all versions have in common."""

    schema_version: int


def read_task_file(path: Path, key: str = "data.tasks") -> TaskFile:
    """Read a file of tasks, which the user named by `key`.

    Raises:
        UserError: there is none, it is no such file, or one of another version.
    """
    refuse_no_task_file(path)
    content = path.read_bytes()
    try:
        version = _Versioned.model_validate_json(content).schema_version
        if version != _SCHEMA_VERSION:
            raise UserError(
                f"{key}: {path}: schema version {version}, this program reads {_SCHEMA_VERSION}; make it "
                "again with pipeline tasks"
            )
        return TaskFile.model_validate_json(content)
    except ValidationError as error:
        raise UserError(
            f"{key}: {path}: {first_mistake(error)}; make it again with pipeline tasks"
        ) from error


def write_task_file(path: Path, content: TaskFile) -> None:
    """Write a file of tasks so that readers see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, content.model_dump_json() + "\n")


def first_mistake(error: ValidationError) -> str:
    """Where a file of tasks is wrong, and how."""
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message

"""Which tags make up which task: a small YAML file that a user can replace."""

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError, field_validator

from data_prep.errors import UserError, nearest, one_line
from data_prep.schema import NO_TASK, Record

_ENGLISH = Path(__file__).with_name("english.yaml")
_TASK_NAME = re.compile(r"[a-z0-9_-]+")


class TagMap(Record):
    """Tasks as groups of a tagger's tags; the order of the tasks fixes their ids."""

    attribute: Literal["tag", "pos"]
    """Fine-grained tags (spaCy's `token.tag_`) or universal ones (`token.pos_`)."""
    tasks: dict[str, tuple[str, ...]]

    @field_validator("tasks")
    @classmethod
    def _check_tasks(cls, tasks: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not 1 <= len(tasks) < NO_TASK:
            raise ValueError(f"{len(tasks)} tasks; give 1 to {NO_TASK - 1}")
        task_of: dict[str, str] = {}
        for task, tags in tasks.items():
            if not _TASK_NAME.fullmatch(task):
                raise ValueError(f'task name "{task}"; use lower-case letters, digits, "_" and "-"')
            if not tags:
                raise ValueError(f'task "{task}" has no tag; name some, or remove it')
            for tag in tags:
                if tag in task_of:
                    raise ValueError(f'tag "{tag}" stands in "{task_of[tag]}" and in "{task}"; keep one')
                task_of[tag] = task
        return tasks

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks in the order of their ids."""
        return tuple(self.tasks)

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the meaning: comments and the order of a task's tags do not matter."""
        tasks = [[task, sorted(tags)] for task, tags in self.tasks.items()]
        return hashlib.sha256(json.dumps([self.attribute, tasks]).encode()).hexdigest()

    def task_of_tag(self, tag: str) -> int:
        """Task id of a tag, or NO_TASK."""
        return self._task_of_tag.get(tag, NO_TASK)

    @cached_property
    def _task_of_tag(self) -> dict[str, int]:
        return {tag: task_id for task_id, tags in enumerate(self.tasks.values()) for tag in tags}


def load_tag_map(path: Path | None = None) -> TagMap:
    """Read a tag map; without a path, the nine parts of speech of English.

    Raises:
        UserError: no such file, not YAML, or not a tag map.
    """
    path = path or _ENGLISH
    if not path.is_file():
        raise UserError(f"{path}: no such file; --tag-map names a YAML file of tasks and their tags")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not YAML ({one_line(error)}); see the default, {_ENGLISH}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a mapping; give the keys attribute and tasks, as in {_ENGLISH}")
    try:
        return TagMap.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_first_mistake(error)}") from error


def _first_mistake(error: ValidationError) -> str:
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    match first["type"]:
        case "extra_forbidden":
            return f'unknown key "{where}"{nearest(where, TagMap.model_fields) or "; remove it"}'
        case "missing":
            return f'no key "{where}"; add it, as in {_ENGLISH}'
        case "value_error":
            return str(first["ctx"]["error"])
        case "literal_error":
            return f"{where}: {first['input']!r}; give {first['ctx']['expected']}"
        case "string_type":
            return f"{where}: {first['input']!r} is no word to YAML; put it in quotes"
        case "tuple_type" | "dict_type":
            return f"{where}: {first['input']!r}; each task takes a list of tags, as in {_ENGLISH}"
        case _:
            return f"{where}: {first['msg']}; each task takes a list of tags, as in {_ENGLISH}"

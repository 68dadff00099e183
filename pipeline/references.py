"""The losses that objective `excess` measures from: found when a run begins, and kept in its run file."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import UserError
from pipeline.config import ObjectiveConfig, RunConfig
from pipeline.config.objective import NonNegative
from pipeline.data.shards import Shards
from pipeline.data.unigram import unigram_entropies
from pipeline.data.word_tasks import WordTasks
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.records import VALIDATION, newest_records

_LOSSES = TypeAdapter(dict[str, NonNegative])


def with_references(
    objective: ObjectiveConfig, shards: Shards, tasks: WordTasks, start: Path | None
) -> ObjectiveConfig:
    """The section with `reference_losses`, where it needs them.

    A run that goes on from its checkpoint `start` keeps those that it began with.

    Raises:
        UserError: as `read_references`.
    """
    if objective.name != "excess" or objective.reference_losses is not None:
        return objective
    assert objective.reference is not None
    if start:
        found = read_manifest(start).config["objective"]["reference_losses"]
    elif objective.reference == "unigram":
        found = unigram_entropies(shards, tasks)
    else:
        found = read_references(objective.reference, of_shard_tasks=tasks.are_the_shards)
    return objective.model_copy(update={"reference_losses": found})


def read_references(path: Path, *, of_shard_tasks: bool) -> dict[str, float]:
    """Task → nats, as a file says or the newest validation of a run's folder.

    Args:
        path: the file or the folder.
        of_shard_tasks: whether they are to be of the shards' own tasks, by which runs are validated.

    Raises:
        UserError: they cannot be read, are not a map from task to nats, or are of other tasks.
    """
    try:
        return _LOSSES.validate_python(_read(path, of_shard_tasks))
    except ValidationError as error:
        raise UserError(f"objective.reference {path}: not a map from task to nats") from error


def with_losses(config: RunConfig, losses: dict[str, float] | None) -> RunConfig:
    """The run file with these references, which nothing reads a second time."""
    objective = config.objective.model_copy(update={"reference_losses": losses})
    return config.model_copy(update={"objective": objective})


def _read(path: Path, of_shard_tasks: bool) -> Any:
    if not path.is_dir():
        try:
            return yaml.safe_load(path.read_text())
        except FileNotFoundError as error:
            raise UserError(f"objective.reference: no such file or folder: {path}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"objective.reference {path}: neither JSON nor YAML") from error
    if not of_shard_tasks:
        raise UserError(
            f"objective.reference {path}: a run is validated on the shards' tasks, data.tasks has others; "
            "name a file of task → nats, or unigram"
        )
    newest = newest_records(path / VALIDATION, 1)
    if not newest:
        raise UserError(
            f"objective.reference {path}: no {VALIDATION} there; name a run with validate.every above 0"
        )
    return newest[0]["task_loss"]

"""Where a run starts: at step 0, or at a checkpoint of the same configuration."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.durable import refuse_occupied
from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.engine.checkpoint import check_files, read_manifest
from pipeline.engine.preflight import flat
from pipeline.engine.run_folder import (
    CONFIG,
    DS_CONFIG,
    SLURM,
    complete_checkpoints,
    find_checkpoint,
    is_checkpoint_of,
)

MAY_DIFFER = (
    "name",
    "out_dir",
    "deepspeed",
    "compile",
    "data.path",
    "data.tasks",
    "data.num_workers",
    "timeout_s",
    "on_nonfinite",
    "spike_factor",
    "validate",
    "checkpoint",
    "log",
    "profile",
    "optimizer.implementation",
    *(TOLD := ("steps", "optimizer.lr", "optimizer.muon_lr", "optimizer.grad_clip")),
)
"""Keys and sections that a run may change when it goes on; a change of those in TOLD changes what comes.

The data and the file of tasks may lie elsewhere, but must be the same. A run that begins at the checkpoint of
another one may have another objective, too, and other tasks of training.
"""
_TASKS_HASH = "data.tasks_sha256"
_OF_THE_TASKS = (_TASKS_HASH, "objective.tasks")
"""Keys that decide which losses the objective weighs."""
_OF_THE_MODEL = ("objective.nsp",)
"""Keys of the objective that decide which heads there are, and which losses."""


def find_start(config: RunConfig, model_recipe: dict[str, Any]) -> Path | None:
    """The checkpoint that a run starts from, or None.

    Raises:
        UserError: as `locate_start`; or the checkpoint's configuration or data differ.
    """
    start = locate_start(config)
    if start:
        _refuse_other_config(start, config, model_recipe)
    return start


def keys_that_must_agree(
    then: dict[str, Any], now: dict[str, Any], *, with_objective: bool
) -> Iterator[tuple[str, Any, Any]]:
    """Keys, with their values then and now, that a run would have to set back to go on from a checkpoint.

    Args:
        then: the configuration of the checkpoint.
        now: the run's.
        with_objective: whether all of the objective, and its tasks, must be what they were, or only what the
            model depends on.
    """
    before, after = flat(then), flat(now)
    if after["objective.estimator"] == "auto":  # which is what it was
        after["objective.estimator"] = before.get("objective.estimator")
    if now["objective"]["reference_losses"] is None:  # they are what objective.reference was when it began
        after |= {
            key: value for key, value in before.items() if key.startswith("objective.reference_losses.")
        }
    for key in sorted(before.keys() | after.keys()):
        section = key.split(".")[0]
        is_free = key in MAY_DIFFER or section in MAY_DIFFER
        if section == "objective" or key == _TASKS_HASH:
            is_free = not with_objective and key not in _OF_THE_MODEL
        if not is_free and before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


def has_other_tasks(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the objective weighs other losses than in the configuration of a checkpoint."""
    before, after = flat(then), flat(now)
    return any(before.get(key) != after.get(key) for key in _OF_THE_TASKS)


def locate_start(config: RunConfig) -> Path | None:
    """Where `find_start` looks, before the run's model is known.

    Raises:
        UserError: the run's folder holds something else.
    """
    run_dir, resume = config.run_dir, config.checkpoint.resume
    checkpoints = complete_checkpoints(run_dir)
    if resume == "never":
        refuse_occupied(run_dir, "name (or out_dir, or checkpoint.resume=auto)", SLURM)
        return None
    if resume == "auto":
        if not checkpoints:
            if not all((run_dir / name).is_file() for name in (CONFIG, DS_CONFIG)):
                refuse_occupied(run_dir, "name or out_dir", SLURM)
            return None
        return checkpoints[-1]
    return _start_at(find_checkpoint(Path(resume)), run_dir)


def find_sound_start(config: RunConfig, model_recipe: dict[str, Any]) -> Path | None:
    """`find_start`, with the hashes of all files compared.

    With `checkpoint.resume=auto` a damaged checkpoint is set aside, with a warning, for the one before.

    Raises:
        UserError: as `find_start`; or no other checkpoint is left.
    """
    while start := find_start(config, model_recipe):
        try:
            check_files(start, read_manifest(start))
            break
        except UserError as error:
            if config.checkpoint.resume != "auto" or len(complete_checkpoints(config.run_dir)) == 1:
                raise
            aside = start.with_name(f"damaged-{start.name}")
            start.replace(aside)
            print(f"pipeline: warning: {error}: set aside as {aside.name}", file=sys.stderr)
    return start


def _start_at(named: Path, run_dir: Path) -> Path:
    """The checkpoint that the user named, or the newest one that the run has made from it since."""
    checkpoints = complete_checkpoints(run_dir)
    if not is_checkpoint_of(run_dir, named):
        if not checkpoints:
            refuse_occupied(run_dir, "name or out_dir", SLURM)
        return checkpoints[-1] if checkpoints else named
    if named.name != checkpoints[-1].name:
        raise UserError(
            f"{named}: the run has a later checkpoint, {checkpoints[-1].name}; remove it, or start another "
            "run from here with name=…"
        )
    return named


def _refuse_other_config(checkpoint: Path, config: RunConfig, model_recipe: dict[str, Any]) -> None:
    """Raise UserError where a key that shaped the checkpoint has another value now, or the data have."""
    manifest = read_manifest(checkpoint)
    if manifest.model != model_recipe:
        raise UserError(
            f"{checkpoint}: {config.data.path} is not what it was trained on; name the old shards, or start "
            "another run with name=…"
        )
    is_own = is_checkpoint_of(config.run_dir, checkpoint)
    for key, then, now in keys_that_must_agree(manifest.config, config.to_dict(), with_objective=is_own):
        if key == _TASKS_HASH:
            raise UserError(
                f"{checkpoint}: trained on other tasks than those of {config.data.tasks or 'the shards'}; "
                "set data.tasks back, or start another run with name=…"
            )
        raise UserError(
            f"{checkpoint}: {key} was {then!r} there and is {now!r} now; set it back, or start another run "
            "with name=…"
        )

"""Paths that a user names, before anything is done with them."""

from pathlib import Path
from typing import Literal

from data_prep.errors import UserError
from pipeline.config import RunConfig


def refuse_wrong_paths(config: RunConfig) -> None:
    """Raise UserError where a folder that a run file names is one of another kind, or cannot be made."""
    refuse_wrong_folder(config.data.path, "data.path", "shards")
    if config.checkpoint.resume not in ("auto", "never"):
        refuse_wrong_folder(Path(config.checkpoint.resume), "checkpoint.resume", "checkpoint")
    if config.data.tasks is not None:
        refuse_no_task_file(config.data.tasks)
    refuse_below_a_file(config.run_dir, "out_dir")


def refuse_no_task_file(path: Path) -> None:
    """Raise UserError where the file that `data.tasks` names is not there."""
    if not path.is_file():
        raise UserError(f"data.tasks: {path}: no such file; make one with pipeline tasks")


def refuse_wrong_folder(folder: Path, key: str, wanted: Literal["shards", "checkpoint"]) -> None:
    """Raise UserError where a checkpoint or a run is named for shards, or shards for a checkpoint."""
    found = {
        "a checkpoint": (folder / "model.safetensors").is_file(),
        "a run": (folder / "checkpoints").is_dir(),
        "shards": (folder / "manifest.sha256").is_file(),
    }
    kind = next((kind for kind, is_it in found.items() if is_it), wanted)
    if wanted == "shards" and kind != "shards":
        raise UserError(f"{key}: {folder} is {kind}; name the folder of shards that data_prep wrote")
    if wanted == "checkpoint" and kind == "shards":
        raise UserError(f"{key}: {folder} holds shards; name a checkpoint (step-NNNNNNNN) or a run")


def refuse_below_a_file(path: Path, key: str) -> None:
    """Raise UserError where a folder on the way to `path`, which is to be written, is a file."""
    on_the_way = next(parent for parent in path.absolute().parents if parent.exists())
    if not on_the_way.is_dir():
        raise UserError(f"{key}: {path} cannot be written, {on_the_way} is a file; name another place")

"""Checkpoints: a folder per saved step that exists only when complete.

step-NNNNNNNN/model.safetensors   fp32 parameters under the network's own names
step-NNNNNNNN/state/              the optimizer's state, a file per rank; any number of ranks at any ZeRO
                                  stage can go on from it
step-NNNNNNNN/manifest.json       step, configuration, state of objective and guard, the hash of every file

No state of random numbers: data, masks and dropout of step k follow from the seed and k.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from torch import nn

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from pipeline.engine.optimizer_state import num_optimizer_steps, restore_state
from pipeline.engine.run_folder import MANIFEST

MODEL = "model.safetensors"
STATE = "state"
_LOSS_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class OptimizerProgress(BaseModel):
    """`num_steps` taken, which may be fewer than the run's; fp16's `loss_scale`, by its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_steps: int
    loss_scale: dict[str, float] | None


class CheckpointManifest(BaseModel):
    """What a checkpoint holds. `files` maps relative paths to SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    tokens: int
    config: dict[str, Any]
    model: dict[str, Any]
    """What the model was built from beside the configuration, for building it again without the data."""
    rule: dict[str, Any]
    guard: dict[str, Any]
    optimizer: OptimizerProgress
    world_size: int
    """Of the ranks that wrote it; another number, and another ZeRO stage, may go on."""
    zero_stage: int
    files: dict[str, str]


def read_manifest(checkpoint: Path) -> CheckpointManifest:
    """Read a checkpoint's manifest; raises UserError where it is malformed."""
    path = checkpoint / MANIFEST
    try:
        return CheckpointManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ": ".join([str(path), *([".".join(map(str, first["loc"]))] if first["loc"] else [])])
        raise UserError(f"{where}: {first['msg']}; use another checkpoint") from error


def check_files(checkpoint: Path, manifest: CheckpointManifest, names: list[str] | None = None) -> None:
    """Compare files (all if `names` is None) with their hashes; raises UserError for one that differs."""
    for name in manifest.files if names is None else names:
        path = checkpoint / name
        if not path.is_file() or sha256_file(path) != manifest.files.get(name):
            raise UserError(f"{path}: missing or altered since it was saved")


def optimizer_progress(engine: Any) -> OptimizerProgress:
    """How far the optimizer and what belongs to it have come."""
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    dynamic = getattr(scaler, "dynamic", False)
    return OptimizerProgress(
        num_steps=num_optimizer_steps(engine),
        loss_scale={key: getattr(scaler, key) for key in _LOSS_SCALE} if dynamic else None,
    )


def load_progress(engine: Any, network: nn.Module, checkpoint: Path) -> CheckpointManifest:
    """Bring an engine's optimizer to where it was saved, its fp32 copy of the parameters included.

    Returns:
        the manifest, for what else goes on from there.
    """
    manifest = read_manifest(checkpoint)
    states = [checkpoint / name for name in sorted(manifest.files) if name.startswith(f"{STATE}/")]
    restore_state(engine, network, load_file(checkpoint / MODEL), states, manifest.optimizer.num_steps)
    for key, value in (manifest.optimizer.loss_scale or {}).items():
        setattr(engine.optimizer.loss_scaler, key, value)
    return manifest


def load_parameters(checkpoint: Path, manifest: CheckpointManifest, network: nn.Module) -> None:
    """Load the safetensors of a checkpoint into a network; raises UserError where they do not fit."""
    check_files(checkpoint, manifest, [MODEL])
    parameters = load_file(checkpoint / MODEL)
    expected = dict(network.named_parameters())
    differing = sorted(parameters.keys() ^ expected.keys())
    if differing:
        raise UserError(
            f"{checkpoint / MODEL}: parameter {differing[0]} is not in both the file and the model"
        )
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(parameters[name])

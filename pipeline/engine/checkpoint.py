"""Checkpoints: a folder per saved step that exists only when complete.

step-NNNNNNNN/model.safetensors   fp32 parameters under the network's own names
step-NNNNNNNN/state/              the optimizer's state, a file per rank; any number of ranks at any ZeRO
                                  stage can go on from it
step-NNNNNNNN/manifest.json       step, configuration, coefficient rule, and the hash of every file
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_prep.durable import fsync_folder, fsync_path, sha256_file
from data_prep.errors import UserError
from pipeline.engine.launch import Place
from pipeline.engine.optimizer_state import num_optimizer_steps, restore_state, write_state

MODEL = "model.safetensors"
STATE = "state"
MANIFEST = "manifest.json"
_LOSS_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class OptimizerProgress(BaseModel):
    """`num_steps` taken; `schedule_steps` of the learning rate; fp16's `loss_scale`, by its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_steps: int
    schedule_steps: int
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
    optimizer: OptimizerProgress
    world_size: int
    """Of the ranks that wrote it; another number, and another ZeRO stage, may go on."""
    zero_stage: int
    files: dict[str, str]


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((run_dir / "checkpoints").glob("step-????????"))


def find_checkpoint(path: Path) -> Path:
    """A checkpoint from its own path, or the newest of a run's folder.

    Raises:
        UserError: there is none.
    """
    if (path / MANIFEST).is_file():
        return path
    found = complete_checkpoints(path)
    if not found:
        raise UserError(f"{path}: neither a checkpoint (step-NNNNNNNN) nor a run that has one")
    return found[-1]


def read_manifest(checkpoint: Path) -> CheckpointManifest:
    """Read a checkpoint's manifest; raises UserError where it is malformed."""
    path = checkpoint / MANIFEST
    try:
        return CheckpointManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def check_files(checkpoint: Path, manifest: CheckpointManifest, names: list[str] | None = None) -> None:
    """Compare files (all if `names` is None) with their hashes; raises UserError for one that differs."""
    for name in manifest.files if names is None else names:
        path = checkpoint / name
        if not path.is_file() or sha256_file(path) != manifest.files.get(name):
            raise UserError(f"{path}: missing or altered since it was saved; use another checkpoint")


def save_checkpoint(
    engine: Any,
    network: nn.Module,
    run_dir: Path,
    manifest: CheckpointManifest,
    companions: dict[str, bytes],
    keep_last: int,
    place: Place,
) -> Path:
    """Write a checkpoint with all ranks; it takes its final name when every rank's files are on disk."""
    final = checkpoint_folder(run_dir, manifest.step)
    partial = final.with_name(f".{final.name}.partial")
    if place.rank == 0:
        for stale in final.parent.glob(".step-*.partial"):  # of saves that were killed
            shutil.rmtree(stale)
        (partial / STATE).mkdir(parents=True)
    dist.barrier()
    own_file = partial / STATE / f"rank-{place.rank:05d}.safetensors"
    write_state(engine, network, place.rank, own_file)
    fsync_path(own_file)
    hashes: list[Any] = [None] * place.world_size
    dist.all_gather_object(hashes, {own_file.relative_to(partial).as_posix(): sha256_file(own_file)})
    parameters = {
        name: tensor.cpu().contiguous()
        for name, tensor in full_parameters(engine, network)
        if place.rank == 0
    }
    if place.rank == 0:
        save_file(parameters, partial / MODEL, metadata={"format": "pt"})
        for name, content in companions.items():
            (partial / name).write_bytes(content)
        files = {name: sha256_file(partial / name) for name in (MODEL, *companions)}
        for of_rank in hashes:
            files |= of_rank
        complete = manifest.model_copy(update={"files": files})
        (partial / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n")
        fsync_folder(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
        fsync_path(final.parent)
        for old in complete_checkpoints(run_dir)[:-keep_last]:
            shutil.rmtree(old)
    dist.barrier()
    return final


def optimizer_progress(engine: Any) -> OptimizerProgress:
    """How far the optimizer and what belongs to it have come."""
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    dynamic = getattr(scaler, "dynamic", False)
    return OptimizerProgress(
        num_steps=num_optimizer_steps(engine),
        schedule_steps=engine.lr_scheduler.last_epoch,
        loss_scale={key: getattr(scaler, key) for key in _LOSS_SCALE} if dynamic else None,
    )


def load_progress(engine: Any, network: nn.Module, checkpoint: Path) -> None:
    """Bring a fresh engine, whose network has the checkpoint's parameters already, to where it was saved.

    The learning rate follows this run's schedule.
    """
    manifest = read_manifest(checkpoint)
    states = sorted((checkpoint / STATE).iterdir())
    restore_state(engine, network, load_file(checkpoint / MODEL), states, manifest.optimizer.num_steps)
    for key, value in (manifest.optimizer.loss_scale or {}).items():
        setattr(engine.optimizer.loss_scaler, key, value)
    schedule = engine.lr_scheduler
    schedule.last_epoch = manifest.optimizer.schedule_steps
    groups = zip(engine.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, base, factor in groups:
        group["lr"] = base * factor(schedule.last_epoch)


def full_parameters(engine: Any, network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter in full and in fp32, whatever the ZeRO stage; all ranks must iterate together."""
    from deepspeed import zero
    from deepspeed.utils import safe_get_full_fp32_param

    stage = engine.zero_optimization_stage()
    for name, parameter in network.named_parameters():
        if stage == 0 or (stage < 3 and not parameter.requires_grad):
            yield name, parameter.detach().float()
        elif parameter.requires_grad:
            yield name, safe_get_full_fp32_param(parameter)
        else:
            with zero.GatheredParameters([parameter]):
                yield name, parameter.detach().float().clone()


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

"""What can be refused before a job waits in the queue: all that it would refuse itself, and what kills it."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from data_prep.errors import UserError
from data_prep.schema import MANIFEST
from data_prep.shards.reading import SequenceTable
from pipeline.amounts import size
from pipeline.assembly import text_data
from pipeline.config import RunConfig
from pipeline.data.word_tasks import with_hash_of_tasks
from pipeline.engine import workarounds
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.ds_config import complete_ds_config, given_ds_config
from pipeline.engine.refusals import refusal_of_settings
from pipeline.engine.run_folder import complete_checkpoints
from pipeline.engine.wandb_run import check_wandb_installed
from pipeline.paths import refuse_wrong_paths
from pipeline.plan.batch import plan_batch
from pipeline.plan.checkpoint import most_checkpoints
from pipeline.plan.memory import USABLE_MEMORY, usable_bytes
from pipeline.plan.run_plan import RunPlan, plan_run
from pipeline.plan.text_case import planned_case
from pipeline.preparation import find_recipe, with_objective
from pipeline.slurm.request import Request
from pipeline.slurm.requeue import refuse_to_begin_anew

_OF_ONE_MACHINE = tuple(Path(folder) for folder in ("/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108


@dataclass(frozen=True)
class CheckedRun:
    """A run that a job could train. `plan` is that of the fewest ranks, which have the most to hold each."""

    config: RunConfig
    request: Request
    plan: RunPlan
    start: Path | None
    """The checkpoint that it goes on from."""
    num_checkpoints: int
    """On disk at a time, at most."""
    room_bytes: int
    """On the disk, with what its checkpoints take there now."""
    warnings: list[str]


def check_run(config: RunConfig, request: Request, gpu_memory_gib: float | None) -> CheckedRun:
    """Check a run for the ranks that a job asks for.

    Data that do not exist yet are no mistake where another job comes before, which may make them.

    Raises:
        UserError: it would be refused as it starts, has nothing left to do, or does not fit memory or disk.
    """
    if gpu_memory_gib is not None and not request.has_gpus:
        raise UserError("--gpu-memory: the job asks for no GPUs; give --gpus-per-node, or leave it out")
    refuse_to_begin_anew(config)
    workarounds.before_import()
    refuse_wrong_paths(config)
    check_wandb_installed(config)
    for world_size in request.world_sizes:
        _check_settings(config, request, world_size)
    warnings = [*_idle_ranks(config, request), *_folders_of_one_machine(config), *_missing_program()]
    start = None
    if request.wishes.after and not (config.data.path / MANIFEST).is_file():
        warnings.append(
            f"{config.data.path}: no shards yet; job {request.wishes.after} must make them. The figures are "
            "those of the default vocabulary and length"
        )
    else:
        start = _check_data(config, warnings)
    fewest = request.world_sizes[0]
    settings, case = given_ds_config(config, fewest), planned_case(config, None)
    plan = plan_run(config, settings, case, fewest, "gpu" if request.has_gpus else "cpu", None)
    if gpu_memory_gib is not None:
        if plan.offloads:
            warnings.append("what is offloaded is counted as if it were not; --gpu-memory is not compared")
        else:
            _check_memory(plan, gpu_memory_gib)
    num_checkpoints = most_checkpoints(config.checkpoint, config.steps)
    room = _check_disk(config, num_checkpoints * plan.checkpoint.total)
    return CheckedRun(config, request, plan, start, num_checkpoints, room, warnings)


def _check_settings(config: RunConfig, request: Request, world_size: int) -> None:
    """Check the DeepSpeed JSON for the machines of the job; this one is another, often without a GPU."""
    settings = given_ds_config(config, world_size)
    complete_ds_config(settings, config, world_size)
    device = torch.device("cuda" if request.has_gpus else "cpu")
    if reason := refusal_of_settings(settings, config, world_size, device):
        raise UserError(f"{config.deepspeed or 'DeepSpeed JSON'}, {world_size} ranks: {reason}")


def _idle_ranks(config: RunConfig, request: Request) -> list[str]:
    batch = plan_batch(config, request.world_sizes[-1])
    if not batch.num_idle:
        return []
    return [
        f"{batch.num_idle} of {batch.world_size} ranks have no micro-batch in the last round: "
        f"{batch.busy_share:.0%} of their time is used; a step has {batch.num_micro_batches} "
        "(batch.global_size ÷ batch.micro_size)"
    ]


def _folders_of_one_machine(config: RunConfig) -> list[str]:
    """Folders that the nodes hardly see: this one, the shards, the runs."""
    folders = {"this folder": Path.cwd(), "data.path": config.data.path, "out_dir": config.out_dir}
    names = [
        name
        for name, folder in folders.items()
        if any(folder.resolve().is_relative_to(local) for local in _OF_ONE_MACHINE)
    ]
    if not names:
        return []
    return [
        f"{', '.join(names)}: below {' or '.join(map(str, _OF_ONE_MACHINE))}, which each machine has for "
        "itself as a rule; all nodes must see the same"
    ]


def _missing_program() -> list[str]:
    """Whether the job would find `pipeline`: in the .venv of this folder, or as this shell does."""
    if Path(".venv/bin/pipeline").exists() or shutil.which("pipeline"):
        return []
    return [
        "the job looks for `pipeline` in .venv below this folder and on PATH, and it is in neither: activate "
        "the environment, or mend `environment` in slurm/pretrain.sh"
    ]


def _check_data(config: RunConfig, warnings: list[str]) -> Path | None:
    """Open all shards, and find the checkpoint that the run goes on from."""
    config = with_hash_of_tasks(config)
    data = text_data(config)
    manifest = data.shards.manifest
    SequenceTable(config.data.path, manifest, [shard for shard in manifest.shards if shard.split != "train"])
    if data.absent_tasks:
        warnings.append(f"no training sequences of {', '.join(data.absent_tasks)}: training without")
    _, start = find_recipe(config, data.shards)
    with_objective(config, data, start)
    if start and read_manifest(start).step >= config.steps:
        raise UserError(f"{start}: the run is at its last step, {config.steps:,}; give more: steps=N")
    return start


def _check_memory(plan: RunPlan, gpu_memory_gib: float) -> None:
    usable = usable_bytes(gpu_memory_gib)
    peak = plan.memory[plan.stage].peak
    if peak <= usable:
        return
    needs = (
        f"ZeRO stage {plan.stage} takes {size(peak)} on each of {plan.batch.world_size} GPUs, "
        f"{USABLE_MEMORY:.0%} of --gpu-memory {gpu_memory_gib:g} GiB can be used"
    )
    stage = plan.smallest_stage(usable)
    if stage is None:
        raise UserError(f"{needs}; no stage fits: lower batch.micro_size, or take more GPUs")
    raise UserError(f"{needs}; stage {stage} fits: deepspeed=ds_configs/zero{stage}.json")


def _check_disk(config: RunConfig, needed: int) -> int:
    """Bytes that there is room for, those of the checkpoints that the run has included."""
    run_dir = config.run_dir
    folder = next(path for path in (run_dir.absolute(), *run_dir.absolute().parents) if path.exists())
    try:
        room = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); mend its rights, or put runs elsewhere: "
            "out_dir=DIR"
        ) from error
    room += sum(_bytes_of(checkpoint) for checkpoint in complete_checkpoints(run_dir))
    if room < needed:
        raise UserError(
            f"{folder}: room for {size(room)}, the checkpoints take up to {size(needed)}; make room, lower "
            "checkpoint.keep_last, or put runs elsewhere: out_dir=DIR"
        )
    return room


def _bytes_of(checkpoint: Path) -> int:
    """On disk; 0 for one that the run, which may be training, takes away meanwhile."""
    try:
        return sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    except FileNotFoundError:
        return 0

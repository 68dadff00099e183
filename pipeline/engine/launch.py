"""Where this process stands among its ranks, under torchrun, deepspeed, srun, or alone."""

import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch

from data_prep.errors import UserError
from pipeline.engine import workarounds


class RanksApartError(RuntimeError):
    """The ranks of a job did not find each other."""


@dataclass(frozen=True)
class Place:
    """This process among the ranks, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device


def join_ranks(timeout_s: float = 600) -> Place:
    """Join the process group that the launcher's environment describes; alone without a launcher.

    A rank waits `timeout_s` seconds for another one before it gives up.

    Raises:
        RanksApartError: not all came, or they cannot reach each other.
    """
    os.environ.update(launch_environment(dict(os.environ)))
    workarounds.before_import()
    import deepspeed

    workarounds.after_import()
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"LOCAL_RANK {local_rank}: this host has {torch.cuda.device_count()} GPUs for this process, "
                "counted from 0; start one rank per GPU"
            )
        torch.cuda.set_device(local_rank)
        device = torch.device("cuda", local_rank)
    else:
        _refuse_idle_gpus(os.environ)
        device = torch.device("cpu")
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        deepspeed.init_distributed(
            dist_backend="nccl" if device.type == "cuda" else "gloo",
            auto_mpi_discovery=False,
            verbose=False,
            timeout=timedelta(seconds=timeout_s),
        )
    except RuntimeError as error:  # of torch's store, or of the backend
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        why = str(error).partition("\n")[0]
        raise RanksApartError(
            f"rank {rank}: the {world_size} ranks did not meet at {where} within {timeout_s:g} s ({why}); "
            "see that all of them start, and reach that place"
        ) from error
    return Place(rank, world_size, device)


def launched_world_size() -> int:
    """How many ranks the launcher started, known before they have joined."""
    return int(launch_environment(dict(os.environ))["WORLD_SIZE"])


def launched_rank() -> int:
    """Which of them this one will be."""
    return int(launch_environment(dict(os.environ))["RANK"])


def launch_environment(environment: dict[str, str]) -> dict[str, str]:
    """RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for this process.

    torchrun and deepspeed set them. A task of an srun step has SLURM's variables. Anything else runs alone,
    also inside a batch script, where SLURM_PROCID is set but no step is running.

    Raises:
        UserError: some of them are set, but not all; one is not a number, or not a possible one.
    """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if "RANK" in environment or "WORLD_SIZE" in environment:
        missing = [name for name in names if name not in environment]
        if missing:
            raise UserError(
                f"environment: {', '.join(missing)} not set; start with torchrun, deepspeed or srun, "
                f"or set all of {', '.join(names)}"
            )
        given = {name: environment[name] for name in names}
        _refuse_impossible(given)
        return given
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        return {
            "RANK": environment["SLURM_PROCID"],
            "LOCAL_RANK": str(_device_of(int(environment["SLURM_LOCALID"]))),
            "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
            "MASTER_ADDR": environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"]),
            "MASTER_PORT": environment.get("MASTER_PORT") or _port_of_job(int(environment["SLURM_JOB_ID"])),
        }
    return {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }


def _refuse_idle_gpus(environment: Mapping[str, str]) -> None:
    """Raise UserError where a job has GPUs that torch does not see: it would hold them for nothing."""
    num_gpus = environment.get("SLURM_GPUS_ON_NODE", "0")
    if "SLURM_STEP_ID" in environment and num_gpus != "0":
        raise UserError(
            f"SLURM gives this job {num_gpus} GPU{'s' * (num_gpus != '1')} per node, but torch "
            f"{torch.__version__} sees none; install torch for CUDA (`pipeline doctor` says more), or ask "
            "for no GPUs"
        )


def _refuse_impossible(given: dict[str, str]) -> None:
    limits = {"WORLD_SIZE": (1, None), "RANK": (0, None), "LOCAL_RANK": (0, None), "MASTER_PORT": (1, 65_535)}
    for name, (least, most) in limits.items():
        value = given[name]
        number = int(value) if value.isdecimal() else None
        if number is None or number < least or (most is not None and number > most):
            limit = f"{least} to {most:,}" if most else f"{least} or more"
            raise UserError(f"environment: {name} is {value!r}, but must be a number, {limit}")
    if int(given["RANK"]) >= int(given["WORLD_SIZE"]):
        raise UserError(
            f"environment: RANK {given['RANK']} of WORLD_SIZE {given['WORLD_SIZE']}: ranks count from 0"
        )


def _device_of(local_id: int) -> int:
    """The GPU of a task: with --gpus-per-task each task sees its own one alone, as number 0."""
    return local_id % torch.cuda.device_count() if torch.cuda.is_available() else local_id


def _first_host(nodes: str) -> str:
    listing = subprocess.run(  # noqa: S603 - no shell; the list comes from SLURM
        ["scontrol", "show", "hostnames", nodes],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return listing.stdout.split()[0]


def _port_of_job(job_id: int) -> str:
    """The same port on all nodes of a job, and different ones for jobs that share a node."""
    return str(20_000 + job_id % 20_000)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

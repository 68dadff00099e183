"""GPUs: that torch sees those which are there, and that each one multiplies matrices."""

import os
from collections import Counter
from pathlib import Path

import torch

from pipeline.amounts import GIB
from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened
from pipeline.doctor.torch_build import build_of_torch

_DRIVER = Path("/proc/driver/nvidia")
_HIDDEN = ("", "-1")
_NOT_GIVEN = (None, "NoDevFiles")
"""CUDA_VISIBLE_DEVICES in a job that asked SLURM for no GPU."""
_FREE_SHARE = 0.9
"""Of a GPU's memory; where less is free, somebody else is using it."""


def examine() -> Finding:
    """Multiply matrices on every GPU that this process may use."""
    if not torch.cuda.is_available():
        return why_no_gpu(_num_nvidia_gpus())
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    for device in devices:
        if problem := _problem_of(device):
            return Finding(
                State.BROKEN,
                shortened(f"{device} ({torch.cuda.get_device_name(device)}): {problem}"),
            )
    kinds = Counter(_describe(device) for device in devices)
    found = "; ".join(f"{number} × {kind}" for kind, number in kinds.items())
    in_use = [device for device in devices if _free_share(device) < _FREE_SHARE]
    if in_use:
        free = ", ".join(f"{_free_share(device):.0%} of {device}" for device in in_use)
        return Finding(
            State.WARNING, f"{found}; only {free} is free", "nvidia-smi shows which process uses it"
        )
    return Finding(State.WORKS, found)


def why_no_gpu(num_gpus: int) -> Finding:
    """Why torch has no GPU, on a machine that has `num_gpus` of NVIDIA's."""
    if num_gpus == 0:
        driver = ", though NVIDIA's driver is installed" if _DRIVER.exists() else ""
        return Finding(State.UNUSED, f"no GPU in this machine{driver}: it computes on its CPU")
    there = f"{num_gpus} GPU{'s' if num_gpus > 1 else ''} in this machine"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in _HIDDEN:
        return Finding(State.UNUSED, f'{there}, hidden by CUDA_VISIBLE_DEVICES="{visible}"')
    if torch.version.cuda is None:
        return Finding(
            State.BROKEN,
            f"{there}, but torch is a {build_of_torch()}, for which they do not exist",
            f"install torch {torch.__version__.split('+')[0]} for CUDA: https://pytorch.org/get-started",
        )
    if "SLURM_JOB_ID" in os.environ and visible in _NOT_GIVEN:
        return Finding(
            State.BROKEN,
            f"{there}, but none was given to this job",
            "ask for one, #SBATCH --gpus-per-task=1, or do without: export CUDA_VISIBLE_DEVICES=",
        )
    try:
        torch.cuda.init()
        reason = "torch does not say why"
    except RuntimeError as error:
        reason = str(error)
    return Finding(
        State.BROKEN,
        shortened(f"{there}, but torch cannot use them: {reason}"),
        "nvidia-smi shows driver and CUDA version; take a newer driver, or a torch for that CUDA version",
    )


def _num_nvidia_gpus() -> int:
    """GPUs that the driver knows, whether or not this process may use them."""
    gpus = _DRIVER / "gpus"
    return len(list(gpus.iterdir())) if gpus.is_dir() else len(list(Path("/dev").glob("nvidia[0-9]*")))


def _problem_of(device: torch.device) -> str | None:
    try:
        for dtype in (torch.float32, torch.bfloat16):
            ones = torch.ones(256, 256, device=device, dtype=dtype)
            if not bool((ones @ ones == 256).all()):
                return f"a matrix product in {dtype} is wrong"
    except RuntimeError as error:
        return str(error)
    return None


def _describe(device: torch.device) -> str:
    properties = torch.cuda.get_device_properties(device)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if torch.version.cuda else True
    return (
        f"{properties.name}, {properties.total_memory / GIB:.0f} GiB, "
        f"{'bf16' if bf16 else 'no bf16 (precision fp16 or fp32)'}"
    )


def _free_share(device: torch.device) -> float:
    free, total = torch.cuda.mem_get_info(device)
    return free / total

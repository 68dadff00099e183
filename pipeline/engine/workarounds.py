"""What DeepSpeed 0.19.8 needs to be told, each with its reason, so that it can go when DeepSpeed mends it."""

import logging
import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from pipeline.config import OptimizerConfig
from pipeline.engine.apex import find_apex, hide_other_apex

REQUIRED_SETTINGS: dict[str, Any] = {
    # Otherwise ZeRO takes Adam alone. SGD goes element by element, as torch's does; rules that look at whole
    # parameters, as no flat vector shows them, are those of pipeline.optimizers.
    "zero_allow_untested_optimizer": True,
    # With an offloaded optimizer DeepSpeed otherwise insists on its own compiled CPUAdam.
    "zero_force_ds_cpu_optimizer": False,
}
"""Settings of the DeepSpeed JSON that are not a user's choice."""


def before_import() -> None:
    """Name the accelerator, which DeepSpeed otherwise guesses with a warning where there is no GPU.

    And hide a package that is called `apex` but is not NVIDIA's, since DeepSpeed imports it.
    """
    hide_other_apex()
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def after_import() -> None:
    """Keep DeepSpeed from compiling at start, and from speaking where nothing is wrong."""
    import deepspeed

    # On CPU every start compiles this operator (a minute, and a compiler), and fails without one. The
    # results with it are the same.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed calls collectives by names that torch is about to change; no user can do anything about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")


def after_initialize(engine: Any, timeout_s: float) -> None:
    """Adjust a fresh engine, whose ranks wait `timeout_s` seconds for each other."""
    group = engine.seq_data_parallel_group
    if group is not None:  # where gradients are reduced; it is made with gloo's 30 min
        torch.distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=timeout_s), group)
    if engine.world_size == 1 and engine.zero_optimization_stage() == 0:
        # DeepSpeed copies all gradients into a flat buffer, reduces it and copies them back: 0.3 s a step of
        # BERT-base on a CPU, and for one rank nothing is gained. It would also give zeros to a parameter
        # without a gradient, but a step gives every trained parameter one. At stages 1 to 3 the same switch
        # would turn off what ZeRO needs.
        engine.enable_backward_allreduce = False


def refusal(settings: dict[str, Any], precision: str, device: torch.device) -> str | None:
    """Why a DeepSpeed JSON, with which DeepSpeed starts, would give wrong results or fail later, or None."""
    zero = settings.get("zero_optimization", {})
    stage = zero.get("stage", 0)
    if precision == "fp16" and device.type == "cpu":
        return "precision fp16 needs a GPU; use bf16 or fp32"
    if settings.get("bf16", {}).get("check_grad_overflow") is False:
        return '"bf16.check_grad_overflow" must not be false: bad gradients would be applied'
    for key in ("bf16_master_weights_and_grads", "bf16_optimizer_states"):
        if settings.get("bf16", {}).get(key):
            return (
                f'"bf16.{key}" must not be true: the optimizer and checkpoints keep fp32 values; leave it out'
            )
    if settings.get("fp16", {}).get("fp16_master_weights_and_grads"):
        return '"fp16.fp16_master_weights_and_grads" must not be true, as checkpoints keep fp32 values'
    if stage in (2, 3) and settings.get("gradient_predivide_factor", 1) != 1:
        return f'"gradient_predivide_factor" does not go with ZeRO stage {stage}; leave it out'
    if zero.get("compute_grad_norm") is False:
        return '"zero_optimization.compute_grad_norm" must not be false: the log needs it'
    if (
        precision == "bf16"
        and settings.get("data_types", {}).get("grad_accum_dtype") == "fp32"
        and stage == 1
    ):
        return (
            '"data_types.grad_accum_dtype" fp32 at stage 1 takes an optimizer whose state '
            "cannot be saved here; leave it out"
        )
    if precision != "fp32" and stage == 0:
        return (
            f"precision {precision} does not go with ZeRO stage 0, where DeepSpeed takes an additional "
            "optimizer step at start; use stage 1 or higher"
        )
    return None


def refusal_of_zero(zero: dict[str, Any], world_size: int, device: torch.device) -> str | None:
    """Why a checked section zero_optimization cannot run on such ranks, or None."""
    offload_optimizer = zero.get("offload_optimizer") or {}
    per_group = zero.get("zero_hpz_partition_size") or 1
    if world_size % per_group:
        return (
            f'"zero_optimization.zero_hpz_partition_size" {per_group} does not divide {world_size}, the ranks'
        )
    for key in ("zero_quantized_weights", "zero_quantized_nontrainable_weights", "zero_quantized_gradients"):
        if zero.get(key) and device.type == "cpu":
            return f'"zero_optimization.{key}" needs a GPU; leave it out'
    if zero.get("stage") in (1, 2) and zero.get("round_robin_gradients"):
        # DeepSpeed names the elements of its vectors as if they lay in another order.
        return '"zero_optimization.round_robin_gradients" mixes parameters up in checkpoints; leave it out'
    if zero.get("stage3_module_granularity_threshold"):
        key = "stage3_module_granularity_threshold"
        return f'"zero_optimization.{key}" fails in the first step of such models; leave it out'
    if zero.get("zenflow") or offload_optimizer.get("super_offload"):
        key = "zenflow" if zero.get("zenflow") else "offload_optimizer.super_offload"
        return f'"zero_optimization.{key}" needs an optimizer of DeepSpeed, not of torch; leave it out'
    if offload_optimizer.get("device") == "nvme":
        # Swapped out, its tensors are empty, and so would a checkpoint be.
        return '"zero_optimization.offload_optimizer.device" "nvme" goes with no checkpoint; use "cpu"'
    if offload_optimizer.get("ratio", 1) != 1:
        # DeepSpeed updates the rest by a second optimizer, whose state no checkpoint would hold.
        return '"zero_optimization.offload_optimizer.ratio" must be 1; leave it out'
    return None


def refusal_of_optimizer(config: OptimizerConfig, zero: dict[str, Any], device: torch.device) -> str | None:
    """Why the implementation that the run file asks for does not go with zero_optimization, or None."""
    key, offload = f"optimizer.implementation {config.implementation}", zero.get("offload_optimizer") or {}
    is_on_cpu = device.type == "cpu" or offload.get("device") == "cpu"
    if config.implementation == "deepspeed_cpu" and not is_on_cpu:
        return (
            f"{key} needs the optimizer in host memory; use ds_configs/zero2-offload.json or "
            "zero3-offload.json, or leave the key out"
        )
    if config.implementation == "apex":
        return _refusal_of_apex_there(key, zero, is_on_cpu=is_on_cpu)
    return None


def refusal_of_host(config: OptimizerConfig, zero: dict[str, Any]) -> str | None:
    """What this host lacks for settings that may be right elsewhere, or None."""
    if config.implementation == "apex" and (reason := _refusal_of_apex("optimizer.implementation apex")):
        return reason
    offload_param = zero.get("offload_param") or {}
    if offload_param.get("device") == "nvme":
        return _refusal_of_nvme(Path(offload_param["nvme_path"]))
    return None


def _refusal_of_apex(key: str) -> str | None:
    apex = find_apex()
    if apex is None:
        return f"{key}: NVIDIA Apex is not installed; build it with --cuda_ext, or leave the key out"
    if not apex.is_nvidias:
        return f"{key}: {apex.place} is not NVIDIA's but another package of that name; leave the key out"
    if not apex.has_kernels:
        built = f"{apex.place} was built without CUDA kernels"
        return f"{key}: {built}; build it with --cuda_ext, or leave the key out"
    return None


def _refusal_of_apex_there(key: str, zero: dict[str, Any], *, is_on_cpu: bool) -> str | None:
    if is_on_cpu:
        return f"{key} needs the optimizer on a GPU; leave the key out"
    if zero.get("stage", 0) == 3:
        # It counts steps by parameter group, which DeepSpeed steps once for each part of it.
        return (
            f'{key} miscounts steps at "zero_optimization.stage" 3; use another stage, or leave the key out'
        )
    return None


def _refusal_of_nvme(folder: Path) -> str | None:
    from deepspeed.accelerator import get_accelerator

    key = "zero_optimization.offload_param"
    builder = get_accelerator().create_op_builder("AsyncIOBuilder")
    if builder is None or not builder.is_compatible(verbose=False):
        return (
            f'"{key}.device" is "nvme", which needs libaio to compile with; install it (libaio-dev or '
            'libaio-devel), or use "cpu"'
        )
    if not folder.is_dir():
        return f'"{key}.nvme_path": {folder} is no folder here; make it, or name another'
    return None

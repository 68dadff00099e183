"""AdamW, by whom the run file asks: torch, DeepSpeed's CPUAdam, or NVIDIA Apex."""

from importlib import import_module
from typing import Any

import torch
from torch.optim import Optimizer

from data_prep.errors import UserError, one_line
from pipeline.config import OptimizerConfig


def build_adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """AdamW of parameter groups that have their learning rate and decay; raises UserError as below."""
    values: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    match config.implementation:
        case "torch":
            # Fused: ZeRO's flat vectors are as large as the model, each temporary of the plain loop as large.
            return torch.optim.AdamW(groups, **values, fused=True)
        case "deepspeed_cpu":
            return _deepspeed_cpu_adamw(groups, values)
        case "apex":
            # Apex counts steps in the group, and only from the first on.
            groups = [{**group, "step": 0} for group in groups]
            optimizer: Optimizer = import_module("apex.optimizers").FusedAdam(
                groups, **values, adam_w_mode=True
            )
            return optimizer


def _deepspeed_cpu_adamw(groups: list[dict[str, Any]], values: dict[str, Any]) -> Optimizer:
    """DeepSpeed's, which is compiled when it is first asked for; raises UserError where that fails."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    try:
        optimizer: Optimizer = DeepSpeedCPUAdam(groups, **values, adamw_mode=True)
    except RuntimeError as error:
        why = one_line(error.__cause__ or error)
        raise UserError(
            f"optimizer.implementation deepspeed_cpu cannot be compiled ({why}); `pipeline doctor` looks at "
            "compiler and ninja; mend them, or leave the key out"
        ) from error
    return optimizer

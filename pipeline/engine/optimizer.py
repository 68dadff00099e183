"""The optimizer and the learning rate of a run file."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from pipeline.config import OptimizerConfig, ScheduleConfig

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """AdamW or SGD; biases and norms (all vectors) do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr)
    # Fused: ZeRO's flat vectors are as large as the model, and each temporary of the plain loop as large.
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def build_schedule(config: ScheduleConfig, num_steps: int) -> Callable[[Optimizer], LRScheduler]:
    """A function that ties the learning rate of an optimizer to its steps."""
    return lambda optimizer: get_scheduler(
        _SCHEDULES[config.name], optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=num_steps
    )


def set_schedule(schedule: Any, step: int) -> None:
    """The learning rate of the step that follows `step` steps: a function of it, not of updates made."""
    schedule.last_epoch = step
    groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, base, factor in groups:
        group["lr"] = base * factor(step)

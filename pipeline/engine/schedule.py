"""The learning rate of a run file: a function of the step."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from pipeline.config import ScheduleConfig


def build_schedule(config: ScheduleConfig, num_steps: int) -> Callable[[Optimizer], LRScheduler]:
    """A function that ties the learning rate of an optimizer to its steps.

    All shapes are a warm-up, a plateau and a decay, each of which may have no steps.
    """
    decays_at_once = config.name in ("linear", "cosine")
    num_decay_steps = num_steps - config.warmup_steps if decays_at_once else config.decay_steps or 0
    shape = {
        "num_decay_steps": num_decay_steps,
        "decay_type": config.name if decays_at_once else config.decay_type,
        "min_lr_ratio": config.min_lr_ratio,
    }
    return lambda optimizer: get_scheduler(
        "warmup_stable_decay",
        optimizer,
        num_warmup_steps=config.warmup_steps,
        num_training_steps=num_steps,
        scheduler_specific_kwargs=shape,
    )


def set_schedule(schedule: Any, step: int) -> None:
    """The learning rate of the step that follows `step` steps: a function of it, not of updates made."""
    schedule.last_epoch = step
    groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, base, factor in groups:
        group["lr"] = base * factor(step)

"""Settings that are right each by itself, and with which a run would fail all the same, or be wrong."""

from typing import Any

import torch

from pipeline.config import RunConfig
from pipeline.engine import activation_checkpointing, compilation, workarounds


def refusal_of_settings(
    settings: dict[str, Any], config: RunConfig, world_size: int, device: torch.device
) -> str | None:
    """Why a run file with a checked DeepSpeed JSON cannot run on such ranks, wherever they are, or None."""
    zero = settings.get("zero_optimization", {})
    return (
        workarounds.refusal(settings, config.precision, device)
        or workarounds.refusal_of_zero(zero, world_size, device)
        or workarounds.refusal_of_optimizer(config.optimizer, zero, device)
        or activation_checkpointing.refusal(settings, device)
        or compilation.refusal(zero.get("stage", 0) if config.compile else 0)
    )

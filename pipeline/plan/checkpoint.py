"""How large a checkpoint is."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.config import OptimizerConfig
from pipeline.engine.optimizer import build_optimizer
from pipeline.engine.optimizer_state import STEP
from pipeline.plan.simulation import ParameterCounts

_FP32_BYTES = 4


@dataclass(frozen=True)
class CheckpointSize:
    """Bytes of a checkpoint; what stands beside the tensors is a few kilobytes a rank."""

    model: int
    """fp32 parameters, in one file."""
    state: int
    """The optimizer's moments, in a file per rank."""

    @property
    def total(self) -> int:
        """Of one checkpoint."""
        return self.model + self.state


def checkpoint_size(parameters: ParameterCounts, num_moments: int) -> CheckpointSize:
    """The size of a checkpoint, whatever the ZeRO stage and the number of ranks."""
    return CheckpointSize(
        model=_FP32_BYTES * parameters.num_all, state=_FP32_BYTES * num_moments * parameters.num_trained
    )


def count_moments(config: OptimizerConfig) -> int:
    """Numbers that the optimizer keeps per parameter: those that it has after a step with a small one."""
    layer = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(layer, config)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    state = optimizer.state[layer.weight]
    return sum(isinstance(value, Tensor) for key, value in state.items() if key != STEP)

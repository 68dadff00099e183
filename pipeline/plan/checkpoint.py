"""How large a checkpoint is, and how many there are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.config import CheckpointConfig, OptimizerConfig
from pipeline.engine.optimizer_state import STEP
from pipeline.models.interface import TaskModel
from pipeline.optimizers import build_optimizer
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


def checkpoint_size(parameters: ParameterCounts, num_moments: float) -> CheckpointSize:
    """The size of a checkpoint, whatever the ZeRO stage and the number of ranks."""
    return CheckpointSize(
        model=_FP32_BYTES * parameters.num_all,
        state=round(_FP32_BYTES * num_moments * parameters.num_trained),
    )


def most_checkpoints(config: CheckpointConfig, num_steps: int) -> int:
    """The most that are on disk at a time: the newest, those kept for good, and one being written."""
    num_saved = 1 if not config.every else -(-num_steps // config.every)
    kept = 0
    if config.every and config.keep_every:
        kept = num_steps // math.lcm(config.every, config.keep_every)
    return min(config.keep_last + kept + 1, num_saved)


def planned_optimizer(
    model: nn.Module, config: OptimizerConfig, hidden: Mapping[nn.Parameter, int]
) -> Optimizer:
    """As `build_optimizer` by torch, whose groups and state all implementations share; compiles nothing."""
    return build_optimizer(model, config.model_copy(update={"implementation": "torch"}), hidden)


def count_moments(model: TaskModel, config: OptimizerConfig) -> float:
    """Numbers that the optimizer keeps per trained parameter, on average; the model may have no data."""
    num_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    num_hidden = sum(p.numel() for p in model.hidden_matrices() if p.requires_grad)
    of_hidden, of_others = (_moments_of_a_matrix(config, is_hidden=is_hidden) for is_hidden in (True, False))
    return of_others + (of_hidden - of_others) * num_hidden / num_trained


def _moments_of_a_matrix(config: OptimizerConfig, *, is_hidden: bool) -> int:
    """Those that the optimizer has after a step with a small one."""
    matrix = nn.Parameter(torch.ones(1, 1))
    optimizer = planned_optimizer(nn.ParameterList([matrix]), config, {matrix: 1} if is_hidden else {})
    matrix.sum().backward()
    optimizer.step()
    state = optimizer.state[matrix]
    return sum(isinstance(value, Tensor) for key, value in state.items() if key != STEP)

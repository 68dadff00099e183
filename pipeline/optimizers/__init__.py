"""The update rules of a run file. Adding one is a file, and a line in `build_optimizer`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pipeline.config import OptimizerConfig
from pipeline.optimizers.adamw import build_adamw
from pipeline.optimizers.lamb import Lamb
from pipeline.optimizers.muon import Muon

Group = dict[str, Any]


def build_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    hidden: Mapping[nn.Parameter, int] = MappingProxyType({}),
    dtype: torch.dtype = torch.float32,
) -> Optimizer:
    """The optimizer of a model's trained parameters; biases and norms (all vectors) do not decay.

    Args:
        model: as it is before DeepSpeed cuts its parameters.
        config: the section `optimizer` of a run file.
        hidden: the weights that muon takes, with the number of matrices that each stacks.
        dtype: in which muon multiplies matrices.

    Raises:
        UserError: `config.implementation` cannot be built here.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices: Group = {
        "params": [p for p in trained if p.ndim > 1],
        "lr": config.lr,
        "weight_decay": config.weight_decay,
    }
    vectors: Group = {"params": [p for p in trained if p.ndim <= 1], "lr": config.lr, "weight_decay": 0.0}
    match config.name:
        case "adamw":
            return build_adamw([matrices, vectors], config)
        case "lamb":
            return Lamb([matrices, vectors | {"adapts": False}], betas=config.betas, eps=config.eps)
        case "muon":
            hidden_group = matrices | {
                "params": [p for p in matrices["params"] if p in hidden],
                "lr": config.muon_lr,
            }
            matrices["params"] = [p for p in matrices["params"] if p not in hidden]
            adamw = [group | {"betas": config.betas, "eps": config.eps} for group in (matrices, vectors)]
            return Muon(hidden_group, adamw, hidden, momentum=config.momentum, dtype=dtype)
        case "sgd":
            return torch.optim.SGD([matrices, vectors], lr=config.lr)

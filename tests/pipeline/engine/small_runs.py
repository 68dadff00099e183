"""What workers of several ranks have in common: a run of a few steps, its model, its parameters in full."""

import torch
from deepspeed import zero
from deepspeed.utils import safe_get_full_fp32_param

from pipeline.assembly import build_model, text_recipe
from pipeline.config import RunConfig

NUM_STEPS = 5


def run_config(keys, shards, precision="fp32"):
    defaults = {
        "name": "exactness",
        "steps": NUM_STEPS,
        "precision": precision,
        # Proportional to the words to mask: unequal counts, and the rare tasks are absent from most steps.
        "data": {"path": shards, "quota": "proportional"},
        "model": {"size": "tiny", "num_layers": 1, "hidden_size": 32, "dropout": 0.1},
        "schedule": {"name": "constant"},
        "validate": {"every": 0},
    }
    return RunConfig.model_validate(defaults | keys)


def fresh_model(config, data):
    torch.manual_seed(0)
    return build_model(config, text_recipe(config, data.shards))


def full_parameters(engine, network):
    """Every parameter in full and in fp32, by DeepSpeed's own reader; all ranks must iterate together."""
    for name, parameter in network.named_parameters():
        if engine.zero_optimization_stage() > 0 and parameter.requires_grad:
            yield name, safe_get_full_fp32_param(parameter).cpu()
        else:
            with zero.GatheredParameters([parameter]):
                yield name, parameter.detach().float().cpu().clone()

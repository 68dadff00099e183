"""Run under torchrun: trains every case with the engine and with plain torch; writes how far they differ."""

import gc
import json
import sys
from functools import cache
from pathlib import Path

import plain_torch
import torch
from deepspeed import zero
from deepspeed.utils import safe_get_full_fp32_param

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.config import RunConfig
from pipeline.engine.launch import join_ranks
from pipeline.engine.training import Job, TrainingRun

NUM_STEPS = 5
NUM_TASKS = 9


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


@cache
def train_plainly(keys_json, shards):
    """Parameters by name before and after training, and the gradients of the last step."""
    config = run_config(json.loads(keys_json), shards)
    data = text_data(config)
    network = fresh_model(config, data).network
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    gradients = plain_torch.train(network, data, config, config.steps)
    return before, dict(network.named_parameters()), gradients


def full_parameters(engine, network):
    """Every parameter in full and in fp32, by DeepSpeed's own reader; all ranks must iterate together."""
    for name, parameter in network.named_parameters():
        if engine.zero_optimization_stage() > 0 and parameter.requires_grad:
            yield name, safe_get_full_fp32_param(parameter).cpu()
        else:
            with zero.GatheredParameters([parameter]):
                yield name, parameter.detach().float().cpu().clone()


def largest_difference(some, others):
    return max(float((some[name] - others[name]).abs().max()) for name in others)


def run_case(case, shards, place):
    config = run_config(case["keys"], shards, case["precision"])
    data = text_data(config)
    model = fresh_model(config, data)
    settings = {"zero_optimization": {"stage": case["stage"]}}
    run = TrainingRun(Job(config, settings, data, model, {}, place))
    counts = [run.runner.run(step).counts[:NUM_TASKS].tolist() for step in range(config.steps)]
    trained = dict(full_parameters(run.engine, model.network))
    if place.rank != 0:
        return None
    before, plain, gradients = train_plainly(json.dumps(case["keys"]), shards)
    moved_by = {name: (before[name] - trained[name]) / config.optimizer.lr for name in gradients}
    return {
        "name": case["name"],
        "difference": largest_difference(trained, plain),
        "change": largest_difference(before, plain),
        "gradient_difference": largest_difference(moved_by, gradients),
        "without_gradient": [n for n, p in plain.items() if p.requires_grad and n not in gradients],
        "counts": counts,
    }


def main():
    cases_file, shards, out = map(Path, sys.argv[1:])
    place = join_ranks()
    gc.freeze()  # DeepSpeed collects garbage per engine at stage 3: not through all that was imported
    results = [run_case(case, shards, place) for case in json.loads(cases_file.read_text())]
    if place.rank == 0:
        out.write_text(json.dumps(results))


main()

"""Run on every rank: trains every case with the engine and with plain torch; writes how far they differ."""

import gc
import json
import sys
from functools import cache
from pathlib import Path

import plain_torch
from small_runs import fresh_model, full_parameters, run_config

from pipeline.assembly import text_data
from pipeline.engine.job import Job
from pipeline.engine.launch import join_ranks
from pipeline.engine.training import TrainingRun

NUM_TASKS = 9
SMALL_CUTS = {"stage3_param_persistence_threshold": 0, "sub_group_size": 3_000}
"""Or these few parameters would be on every rank at stage 3, and a group updated at once."""


@cache
def train_plainly(keys_json, shards):
    """Parameters by name before and after training, and the gradients of the last step."""
    config = run_config(json.loads(keys_json), shards)
    data = text_data(config)
    network = fresh_model(config, data).network
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    gradients = plain_torch.train(network, data, config, config.steps)
    return before, dict(network.named_parameters()), gradients


def largest_difference(some, others):
    return max(float((some[name] - others[name]).abs().max()) for name in others)


def stage_3_facts(engine, network):
    """How many parameters are whole on every rank; how many vectors are updated, of how many groups."""
    if engine.zero_optimization_stage() < 3:
        return {}
    return {
        "num_whole": sum(parameter.ds_persist for parameter in network.parameters()),
        "num_vectors": len(engine.optimizer.fp32_partitioned_groups_flat),
        "num_groups": len(engine.optimizer.param_groups),
    }


def run_case(case, shards, place):
    config = run_config(case["keys"], shards, case["precision"])
    data = text_data(config)
    model = fresh_model(config, data)
    settings = {"zero_optimization": {"stage": case["stage"], **SMALL_CUTS}}
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
        **stage_3_facts(run.engine, model.network),
    }


def main():
    cases_file, shards, out = map(Path, sys.argv[1:])
    place = join_ranks()
    gc.freeze()  # DeepSpeed collects garbage per engine at stage 3: not through all that was imported
    results = [run_case(case, shards, place) for case in json.loads(cases_file.read_text())]
    if place.rank == 0:
        out.write_text(json.dumps(results))


main()

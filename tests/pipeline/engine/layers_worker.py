"""Run on every rank: trains every case as it is and with its change to the layers; writes what differs."""

import gc
import json
import sys
from pathlib import Path

import torch
from small_runs import fresh_model, full_parameters, run_config

from pipeline.assembly import text_data
from pipeline.engine.job import Job
from pipeline.engine.launch import join_ranks
from pipeline.engine.training import TrainingRun


class Runs:
    """How often each layer has run."""

    def __init__(self, layers):
        self.of_layers = [0] * len(layers)
        for number, layer in enumerate(layers):
            layer.attention.register_forward_hook(lambda *_, number=number: self._count(number))

    def _count(self, number):
        self.of_layers[number] += 1


def train(case, sections, shards, place, **keys):
    config = run_config(case["keys"] | keys, shards, case["precision"])
    data = text_data(config)
    model = fresh_model(config, data)
    # Parameters this small would never be divided at stage 3.
    zero = {"stage": case["stage"], "stage3_param_persistence_threshold": 0}
    run = TrainingRun(Job(config, {"zero_optimization": zero, **sections}, data, model, {}, place))
    runs = Runs([] if case.get("compile") else model.layers())
    for step in range(config.steps):
        run.runner.run(step)
    return dict(full_parameters(run.engine, model.network)), runs.of_layers


def run_case(case, shards, place):
    expected, times = train(case, {}, shards, place)
    sections = {} if case["section"] is None else {"activation_checkpointing": case["section"]}
    trained, more_times = train(case, sections, shards, place, compile=case.get("compile", False))
    largest = max(float((expected[name] - trained[name]).abs().max()) for name in expected)
    return {
        "name": case["name"],
        "differing": [name for name in expected if not torch.equal(expected[name], trained[name])],
        "largest_difference": largest,
        "num_parameters": len(expected),
        "times": [more / few for more, few in zip(more_times, times, strict=True)],
    }


def main():
    cases_file, shards, out = map(Path, sys.argv[1:])
    place = join_ranks()
    gc.freeze()
    results = [run_case(case, shards, place) for case in json.loads(cases_file.read_text())]
    if place.rank == 0:
        out.write_text(json.dumps(results))


main()

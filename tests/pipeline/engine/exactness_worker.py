"""Run under torchrun: trains every case with the engine and with plain torch; writes how far they differ."""

import copy
import json
import sys
from pathlib import Path

import plain_torch
import torch

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.config import RunConfig
from pipeline.engine.checkpoint import full_parameters
from pipeline.engine.launch import join_ranks
from pipeline.engine.pretrain import Job, TrainingRun

NUM_STEPS = 5


def run_case(case, shards, place):
    config = RunConfig.model_validate(
        {
            "name": case["name"],
            "steps": NUM_STEPS,
            "precision": case.get("precision", "fp32"),
            "data": {"path": shards},
            "masking": case.get("masking", {}),
            "model": {"size": "tiny", "hidden_size": 32, "dropout": 0.1},
            "objective": case["objective"],
            # 3 micro-batches: uneven over 2 ranks; 6 sequences of 9 tasks: 3 and more absent from every step
            "batch": case.get("batch", {"global_size": 6, "micro_size": 2}),
            "optimizer": {
                "name": case["optimizer"],
                "lr": case["lr"],
                "grad_clip": 0,
                "weight_decay": case.get("weight_decay", 0.01),
            },
            "schedule": {"name": "constant"},
            "validate": {"every": 0},
        }
    )
    data = text_data(config)
    recipe = text_recipe(config, data.shards)
    torch.manual_seed(0)
    model = build_model(config, recipe)
    initial = copy.deepcopy(model.network)
    num_steps = case.get("num_steps", NUM_STEPS)
    settings = {"zero_optimization": {"stage": case["stage"]}}
    run = TrainingRun(Job(config, settings, data, model, {}, place))
    absent = 0
    for step in range(num_steps):
        absent += int((run.runner.run(step).counts[:9] == 0).sum())
    trained = {name: value.cpu() for name, value in full_parameters(run.engine, model.network)}
    if place.rank != 0:
        return None
    plain = copy.deepcopy(initial)
    gradients = plain_torch.train(plain, data, config, num_steps)
    started = dict(initial.named_parameters())
    return {
        "name": case["name"],
        "difference": max(float((trained[n] - p).abs().max()) for n, p in plain.named_parameters()),
        "change": max(float((started[n] - p).abs().max()) for n, p in plain.named_parameters()),
        "gradient_difference": max(
            float(((started[n] - trained[n]) / case["lr"] - g).abs().max()) for n, g in gradients.items()
        ),
        "absent": absent,
    }


def main():
    cases_file, shards, out = map(Path, sys.argv[1:])
    place = join_ranks()
    results = [run_case(case, shards, place) for case in json.loads(cases_file.read_text())]
    if place.rank == 0:
        out.write_text(json.dumps(results))


main()

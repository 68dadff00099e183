"""Run on every rank: takes steps of gradnorm, and computes the tasks' gradients again, a pass for each."""

import gc
import json
import sys
from pathlib import Path

import plain_torch
import torch
from small_runs import fresh_model, full_parameters, run_config

from pipeline.assembly import text_data
from pipeline.engine.job import Job
from pipeline.engine.launch import join_ranks
from pipeline.engine.training import TrainingRun


def norms_by_separate_passes(model, data, config, step):
    """[T] of the gradients of the tasks' mean losses over the pooled batch, 0 where there is no loss."""
    word_losses, _ = plain_torch.step_losses(model.network, data, config, step)
    weight = model.shared_layer().weight
    return [
        float(torch.autograd.grad(torch.stack(losses).mean(), weight, retain_graph=True)[0].norm())
        if losses
        else 0.0
        for losses in word_losses[: len(data.shards.task_names)]
    ]


def run_case(case, shards, place):
    config = run_config(case["keys"], shards, case["precision"])
    data, model = text_data(config), fresh_model(config, text_data(config))
    # Parameters this small would never be divided at stage 3.
    settings = {"zero_optimization": {"stage": case["stage"], "stage3_param_persistence_threshold": 0}}
    settings |= case["sections"]
    twin = fresh_model(config, data)
    run = TrainingRun(Job(config, settings, data, model, {}, place))
    steps = []
    for step in range(config.steps):
        twin.network.load_state_dict(dict(full_parameters(run.engine, model.network)), strict=False)
        result = run.runner.run(step)
        steps.append(
            {
                "norms": result.gradient_norms.tolist(),
                "coefficients": result.coefficients[data.terms.is_task].tolist(),
                "counts": result.counts[data.terms.is_task].tolist(),
                "losses": (result.sums / result.counts.clamp(min=1))[data.terms.is_task].tolist(),
                "expected_norms": norms_by_separate_passes(twin, data, config, step)
                if place.rank == 0
                else [],
            }
        )
    return {"name": case["name"], "steps": steps}


def main():
    cases_file, shards, out = map(Path, sys.argv[1:])
    place = join_ranks()
    gc.freeze()
    results = [run_case(case, shards, place) for case in json.loads(cases_file.read_text())]
    if place.rank == 0:
        out.write_text(json.dumps(results))


main()

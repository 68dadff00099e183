"""Run on every rank: trains every case, some of them from a checkpoint, as `pipeline pretrain` does."""

import json
import sys
from pathlib import Path

import poison_step
import torch

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.config import RunConfig
from pipeline.engine.job import Job
from pipeline.engine.launch import join_ranks
from pipeline.engine.training import TrainingRun


def train(case, shards, place):
    config = RunConfig.model_validate(
        {
            "name": case["name"],
            "out_dir": case["out_dir"],
            "steps": 4,
            "precision": case.get("precision", "fp32"),
            "data": {"path": shards},
            # Sizes that neither 2 nor 3 ranks divide: cuts of ZeRO end within parameters, and in padding.
            "model": {"size": "tiny", "hidden_size": 30, "num_heads": 2, "intermediate_size": 67},
            "objective": {"name": "minimax", "estimator": "two_pass"},
            "batch": {"global_size": 6, "micro_size": 2},
            "optimizer": {"name": case.get("optimizer", "adamw"), "lr": case.get("lr", 1e-3), "grad_clip": 0},
            "schedule": {"name": "constant", "warmup_steps": 0},
            "validate": {"every": 0},
            "checkpoint": {"every": 2, "keep_last": 9},
            "log": {"every": 1},
            **case.get("config", {}),
        }
    )
    data = text_data(config)
    recipe = text_recipe(config, data.shards)
    torch.manual_seed(0)
    model = build_model(config, recipe)
    settings = {"zero_optimization": {"stage": case["stage"], **case.get("zero", {})}}
    job = Job(config, settings, data, model, recipe.model_dump(mode="json"), place)
    with poison_step.poisoned(*case.get("poison", (None, [], 0))):
        TrainingRun(job, Path(case["start"]) if case["start"] else None).train()


def main():
    place = join_ranks()
    for case in json.loads(Path(sys.argv[1]).read_text()):
        train(case, Path(sys.argv[2]), place)


main()

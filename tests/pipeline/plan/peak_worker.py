"""Prints the peak of resident memory, in bytes, of training steps of a run: `peak_worker.py STAGE KEY=VALUE…`

What the process takes whatever the model, code and libraries, is there before: another run was trained.
"""

import ctypes
import gc
import sys
from pathlib import Path

import torch

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.engine.ds_config import given_ds_config
from pipeline.engine.launch import join_ranks
from pipeline.engine.pretrain import Job, TrainingRun
from pipeline.run_file import load_config

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
NEGLIGIBLE = ["model.size=tiny", "model.hidden_size=16", "model.num_heads=2"]


def resident_bytes(entry):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) * 1024


def train(overrides, stage, place):
    config = load_config(TINY, [*overrides, "data.num_workers=0", "validate.every=0"])
    data = text_data(config)
    recipe = text_recipe(config, data.shards)
    settings = given_ds_config(config, place.world_size) | {"zero_optimization": {"stage": stage}}
    run = TrainingRun(Job(config, settings, data, build_model(config, recipe), {}, place))
    for step in range(3):
        run.runner.run(step)


def start_counting():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes("VmRSS")


def main(stage, *overrides):
    torch.set_num_threads(1)
    place = join_ranks()
    train([*overrides, *NEGLIGIBLE], stage, place)
    before = start_counting()
    train(overrides, stage, place)
    sys.stdout.write(f"{resident_bytes('VmHWM') - before}\n")  # print writes the line end apart


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])

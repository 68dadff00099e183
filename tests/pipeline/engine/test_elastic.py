"""A checkpoint of any ranks and ZeRO stage goes on with any others, as if the run had never stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

HERE = Path(__file__).parent
FIRST_STEPS, ALL_STEPS = 2, 4  # as the worker saves
ADAMW = {"optimizer": "adamw", "precision": "fp32", "lr": 1e-3}
BF16 = {"optimizer": "sgd", "precision": "bf16", "lr": 0.1}  # bf16 needs the fp32 masters, at stage 1 to 3
LAYOUTS = [(kind, stage) for kind in ("adamw", "bf16") for stage in range(4) if (kind, stage) != ("bf16", 0)]
RULES = {"adamw": ADAMW, "bf16": BF16}


def launch(ranks, cases, folder, shards):
    plan = folder / f"cases-{ranks}.json"
    plan.write_text(json.dumps([{"start": None, "out_dir": str(folder), **case} for case in cases]))
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
            *map(str, (HERE / "training_worker.py", plan, shards)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def checkpoint(folder, name, step=ALL_STEPS):
    return folder / name / "checkpoints" / f"step-{step:08d}"


def name_of(kind, stage, after=None, ranks=2):
    return f"{kind}-stage{stage}" if after is None else f"{kind}-stage{stage}-to-stage{after}-on-{ranks}"


@pytest.fixture(scope="module")
def folder(shards, tmp_path_factory):
    """Runs of 2 ranks at every stage that never stop, with a checkpoint half-way."""
    folder = tmp_path_factory.mktemp("elastic")
    runs = [{"name": name_of(kind, stage), "stage": stage, **RULES[kind]} for kind, stage in LAYOUTS]
    launch(2, runs, folder, shards)
    return folder


@pytest.fixture(scope="module", params=[1, 2, 3], ids=["1 rank", "2 ranks", "3 ranks"])
def ranks(request, folder, shards):
    """The number of ranks that have gone on from half-way of each of those runs, at every stage."""
    runs = [
        {
            "name": name_of(kind, before, after, request.param),
            "stage": after,
            "start": str(checkpoint(folder, name_of(kind, before), FIRST_STEPS)),
            **RULES[kind],
        }
        for kind, before in LAYOUTS
        for after in range(4)
        if (kind, after) in LAYOUTS
    ]
    launch(request.param, runs, folder, shards)
    return request.param


def parameters(folder, name, step=ALL_STEPS):
    return load_file(checkpoint(folder, name, step) / "model.safetensors")


def moments(folder, name):
    """The optimizer's tensors, put together from the files of all ranks, flattened."""
    pieces = {}
    for path in sorted((checkpoint(folder, name) / "state").iterdir()):
        with safe_open(path, framework="pt") as file:
            for key, start in json.loads(file.metadata()["starts"]).items():
                pieces.setdefault(key, {})[start] = file.get_tensor(key)
    return {key: torch.cat([parts[start] for start in sorted(parts)]) for key, parts in pieces.items()}


def largest_difference(here, there):
    assert here.keys() == there.keys()
    return max(float((here[name] - there[name]).abs().max()) for name in here)


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("before", range(4))
def test_adamw_goes_on_from_any_stage_at_any_stage(folder, ranks, before, after):
    uninterrupted, resumed = name_of("adamw", 0), name_of("adamw", before, after, ranks)
    end = parameters(folder, uninterrupted)
    assert largest_difference(parameters(folder, uninterrupted, FIRST_STEPS), end) >= 1e-3
    assert largest_difference(parameters(folder, resumed), end) <= 1e-4
    assert largest_difference(moments(folder, resumed), moments(folder, uninterrupted)) <= 1e-5


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("before", [1, 2, 3])
def test_bf16_goes_on_with_the_fp32_values_that_were_saved(folder, ranks, before, after):
    end = parameters(folder, name_of("bf16", 1))
    change = largest_difference(parameters(folder, name_of("bf16", 1), FIRST_STEPS), end)
    assert change >= 1e-2
    assert largest_difference(parameters(folder, name_of("bf16", before, after, ranks)), end) <= 0.02 * change

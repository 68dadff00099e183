"""Compiled layers take the same steps as others, up to rounding; without a compiler none start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.engine.compilation import compiler_failure

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
QUICK = [
    "data.num_workers=0",
    "batch.global_size=12",
    "batch.micro_size=4",
    "log.every=1",
    "validate.every=4",
]


def keys(folder, shards):
    return [f"data.path={shards}", f"out_dir={folder}", "checkpoint.every=2", *QUICK]


def pretrain(folder, shards, *overrides, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "pretrain", str(TINY), *keys(folder, shards), *overrides],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=600,
    )


def parameters(run):
    return load_file(run / "checkpoints" / "step-00000004" / "model.safetensors")


@pytest.fixture(scope="module")
def runs(pipeline, shards, tmp_path_factory):
    """Four steps of each; `mixed` is compiled for the first two alone."""
    folder = tmp_path_factory.mktemp("compilation")
    said = {}
    for name, parts in {
        "plain": (["steps=4"],),
        "mixed": (["steps=2", "compile=true"], ["steps=4", "compile=false"]),
        "compiled": (["steps=4", "compile=true"],),
    }.items():
        for overrides in parts:
            constant = ["schedule.name=constant", f"name={name}", *overrides]
            done = pipeline("pretrain", TINY, *keys(folder, shards), *constant)
            assert done.returncode == 0, done.stderr
            said[name] = said.get(name, "") + done.stderr
    return folder, said


@pytest.mark.parametrize("name", ["compiled", "mixed"])
def test_parameters_have_the_same_names_and_up_to_rounding_the_same_values(runs, name):
    folder, _ = runs
    plain, compiled = parameters(folder / "plain"), parameters(folder / name)
    assert plain.keys() == compiled.keys()
    # Another dropout would differ by the size of an update, 1e-3.
    assert max(float((plain[key] - compiled[key]).abs().max()) for key in plain) <= 1e-4


def test_the_compiler_was_at_work(runs):
    folder, _ = runs
    plain, compiled = parameters(folder / "plain"), parameters(folder / "compiled")
    assert any(not plain[key].equal(compiled[key]) for key in plain)


def test_compiling_says_nothing_to_the_user(runs):
    folder, said = runs
    assert [
        line for line in said["compiled"].splitlines() if not line.startswith(("compiled:", str(folder)))
    ] == []


def test_a_compiled_run_validates_alike(runs):
    folder, _ = runs
    plain, compiled = (
        json.loads((folder / name / "validation.jsonl").read_text().splitlines()[-1])
        for name in ("plain", "compiled")
    )
    assert compiled["average_loss"] == pytest.approx(plain["average_loss"], abs=1e-4)


CASES = {
    # Over 2 ranks the last round has an empty micro-batch.
    "fp32, stage 1, layers that run again": {"stage": 1, "section": {}, "estimator": "two_pass"},
    "bf16, stage 2": {"stage": 2, "precision": "bf16", "estimator": "batch"},
    "fp32, stage 0, ModernBERT without padding": {"stage": 0, "backbone": "modernbert", "estimator": "ema"},
}


def _worker_case(name, stage, estimator, precision="fp32", section=None, backbone="bert"):
    return {
        "name": name,
        "stage": stage,
        "precision": precision,
        "section": section,
        "compile": True,
        "keys": {
            "steps": 2,
            "model": {"backbone": backbone, "size": "tiny", "hidden_size": 32, "num_layers": 2},
            "objective": {"name": "minimax", "estimator": estimator},
            "batch": {"global_size": 10, "micro_size": 2},
            "optimizer": {"name": "sgd", "lr": 0.1},
        },
    }


@pytest.fixture(scope="module")
def differences(run_cases):
    """After two steps on two ranks, by case."""
    cases = [_worker_case(name, **case) for name, case in CASES.items()]
    results = run_cases("layers_worker.py", cases, 2)
    return {name: result["largest_difference"] for name, result in results.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_ranks_stages_and_estimators_give_what_layers_as_they_are_give(differences, name):
    # bf16 rounds weights to 2^-9 of their size, 0.02 to 1; another dropout would be 100 times more.
    assert differences[name] <= (5e-4 if "bf16" in name else 1e-6)


def test_without_a_compiler_a_run_is_refused_in_one_line(shards, tmp_path):
    # An empty cache: what was compiled once needs no compiler.
    nowhere = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = pretrain(tmp_path, shards, "compile=true", **nowhere)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "compile: torch.compile builds nothing on rank 0 (" in done.stderr
    assert not (tmp_path / "tiny").exists()


def test_one_rank_without_a_compiler_ends_all_in_the_same_line(pretrain_ranks, tmp_path):
    nowhere = {"CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    own = {1: {"environment": nowhere}}
    run = pretrain_ranks("compile=true", own=own, world_size=2, fresh=True, LOCAL_RANK="0")
    codes, said = run.end(300)
    assert codes == [2, 2], said
    (line,) = set(said)
    assert line.startswith("pipeline: error: compile: torch.compile builds nothing on rank 1 (")
    assert line.count("\n") == 1
    assert not run.folder.exists()


def test_the_compiler_is_tried_on_the_device_of_the_rank():
    assert compiler_failure(torch.device("cpu")) is None
    assert "'Vulkan' backend" in compiler_failure(torch.device("vulkan", 0))


def test_stage_3_is_refused(shards, tmp_path):
    stage_3 = TINY.parents[1] / "ds_configs" / "zero3.json"
    done = pretrain(tmp_path, shards, "compile=true", f"deepspeed={stage_3}")
    assert done.returncode == 2
    assert "does not go with compile=true" in done.stderr

"""AdamW by DeepSpeed's CPUAdam and by Apex is torch's: the same steps, and one goes on from another's state.

Apex needs a GPU. A stand-in of its shape shows that it gets what it needs, not what it computes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .saved import ALL_STEPS, FIRST_STEPS, checkpoint, largest_difference, moments, parameters

WORKER = Path(__file__).parent / "training_worker.py"
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
STAND_IN = '''
import torch

class FusedAdam(torch.optim.Optimizer):
    """NVIDIA's, in what shows: steps are counted in the group, moments are kept by parameter."""

    def __init__(self, params, lr, betas, eps, adam_w_mode):
        assert adam_w_mode
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            if not group["params"]:
                continue
            group["step"] = group.get("step", 0) + 1
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                m = state["exp_avg"].lerp_(p.grad, 1 - beta1) / (1 - beta1 ** group["step"])
                v = state["exp_avg_sq"].lerp_(p.grad**2, 1 - beta2) / (1 - beta2 ** group["step"])
                p.sub_(lr * (m / (v.sqrt() + group["eps"]) + group["weight_decay"] * p))
'''


def write_cases(folder, cases):
    path = folder / "cases.json"
    path.write_text(json.dumps([{"out_dir": str(folder), **case} for case in cases]))
    return path


@pytest.fixture
def train(shards, tmp_path, run_worker):
    """Trains cases on 2 ranks, and returns the folder of their runs."""

    def train(*cases):
        run_worker("training_worker.py", write_cases(tmp_path, cases), shards, world_size=2)
        return tmp_path

    return train


@pytest.fixture
def train_beside_apex(shards, tmp_path):
    """The same with Apex's stand-in at hand, which DeepSpeed looks for as it is imported."""
    site = tmp_path / "site"
    (site / "apex" / "optimizers").mkdir(parents=True)
    (site / "apex" / "__init__.py").touch()
    (site / "apex" / "optimizers" / "__init__.py").write_text("from .fused_adam import FusedAdam")
    (site / "apex" / "optimizers" / "fused_adam.py").write_text(STAND_IN)

    def train(*cases):
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        finished = subprocess.run(
            [sys.executable, *launch, str(WORKER), str(write_cases(tmp_path, cases)), str(shards)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return tmp_path

    return train


def case(folder, implementation, stage, after=None, **zero):
    """A run by an implementation at a ZeRO stage, from half-way of the run `after` where that is given."""
    name = f"{implementation}-{stage}-after-{after}"
    start = None if after is None else str(checkpoint(folder, after, FIRST_STEPS))
    optimizer = {"implementation": implementation, "lr": 1e-3, "grad_clip": 0.1}
    return {"name": name, "stage": stage, "zero": zero, "start": start, "config": {"optimizer": optimizer}}


def assert_equal_ends(folder, *names):
    """The runs end like the first of them, which did move in its last steps."""
    end = parameters(folder, names[0])
    assert largest_difference(parameters(folder, names[0], FIRST_STEPS), end) >= 1e-3
    for name in names[1:]:
        assert largest_difference(parameters(folder, name), end) <= 1e-5
        assert largest_difference(moments(folder, name), moments(folder, names[0])) <= 1e-6
        manifest = json.loads((checkpoint(folder, name) / "manifest.json").read_text())
        assert manifest["optimizer"]["num_steps"] == ALL_STEPS


def test_a_stand_in_for_apex_takes_torchs_steps_and_either_goes_on_from_the_other(train_beside_apex):
    folder = train_beside_apex(case("", "torch", 1), *(case("", "apex", stage) for stage in (0, 1, 2)))
    torchs = "torch-1-after-None"
    train_beside_apex(
        case(folder, "apex", 2, after=torchs), case(folder, "torch", 3, after="apex-1-after-None")
    )
    assert_equal_ends(
        folder,
        torchs,
        *(f"apex-{stage}-after-None" for stage in (0, 1, 2)),
        "apex-2-after-torch-1-after-None",
        "torch-3-after-apex-1-after-None",
    )


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") and shutil.which("ninja")), reason="no compiler for CPUAdam")
def test_deepspeeds_cpuadam_takes_torchs_steps_and_either_goes_on_from_the_other(train):
    folder = train(
        case("", "torch", 2),
        case("", "deepspeed_cpu", 2, **OFFLOAD),
        case("", "deepspeed_cpu", 3, **OFFLOAD),
    )
    torchs, cpuadams = "torch-2-after-None", "deepspeed_cpu-2-after-None"
    train(case(folder, "deepspeed_cpu", 3, after=torchs, **OFFLOAD), case(folder, "torch", 1, after=cpuadams))
    assert_equal_ends(
        folder,
        torchs,
        cpuadams,
        "deepspeed_cpu-3-after-None",
        f"deepspeed_cpu-3-after-{torchs}",
        f"torch-1-after-{cpuadams}",
    )

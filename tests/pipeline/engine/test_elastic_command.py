"""A run that is stopped twice, and goes on each time with other ranks and another ZeRO stage."""

import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline.engine.stop import STOPPED

DS_CONFIGS = Path(__file__).parents[3] / "ds_configs"
STEPS = 6
SETTINGS = (f"steps={STEPS}", "checkpoint.every=2", "checkpoint.keep_last=3", "objective.estimator=two_pass")
LOSSES = ("loss", "average_loss", "worst_loss", "grad_norm", "lr")


@pytest.fixture
def run(pretrain_ranks):
    """Records and checkpoints of a run by its parts: (ranks, ZeRO stage), each stopped but the last."""

    def run(name, *parts):
        for number, (world_size, stage) in enumerate(parts, start=1):
            stopped = number < len(parts)
            # The job's time is as good as up: each part takes two steps, saves, and ends.
            end = {"SLURM_JOB_END_TIME": str(int(time.time()))} if stopped else {}
            deepspeed = f"deepspeed={DS_CONFIGS}/zero{stage}.json"
            ranks = pretrain_ranks(*SETTINGS, deepspeed, name=name, world_size=world_size, **end)
            codes, said = ranks.end()
            assert codes == [STOPPED if stopped else 0] * world_size, said
        return ranks.records, ranks.folder / "checkpoints"

    return run


def parameters(checkpoints, step):
    return load_file(checkpoints / f"step-{step:08d}" / "model.safetensors")


def largest_difference(here, there):
    assert here.keys() == there.keys()
    return max(float((here[name] - there[name]).abs().max()) for name in here)


def test_a_run_that_changes_ranks_and_stage_at_every_stop_ends_as_one_that_never_stopped(run):
    records, checkpoints = run("elastic", (2, 1), (1, 3), (2, 2))
    expected, never_stopped = run("steady", (2, 1))

    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    for here, there in zip(records, expected, strict=True):
        assert {key: here[key] for key in LOSSES} == pytest.approx(
            {key: there[key] for key in LOSSES}, abs=1e-4
        )
        assert here["task_loss"] == pytest.approx(there["task_loss"], abs=1e-4)
        assert here["task_count"] == there["task_count"]

    end = parameters(never_stopped, STEPS)
    assert largest_difference(parameters(never_stopped, 2), end) >= 1e-3
    assert largest_difference(parameters(checkpoints, STEPS), end) <= 1e-4

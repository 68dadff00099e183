"""A step whose loss or gradient is no number, or a spike, changes no parameter; what then is a choice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipeline.engine.guard import LossGuard, Refusal

HERE = Path(__file__).parent
BAD_STEP, BAD_MICRO_BATCH = 3, 2  # of 4 steps, each of 3 micro-batches of 2 sequences
STAGES = range(4)
SKIPPED = {
    f"skip-{kind}-stage{stage}": {"stage": stage, "poison": [kind, BAD_STEP, BAD_MICRO_BATCH]}
    for kind in ("loss", "gradient")
    for stage in STAGES
}
GONE_BACK = {f"rollback-stage{stage}": {"stage": stage} for stage in STAGES}
ROLLBACK = {"on_nonfinite": "rollback", "checkpoint": {"every": 2, "keep_last": 9}}
EVERY_STEP = {"every": 1, "keep_last": 9}
CASES = {
    **{
        name: {**case, "config": {"on_nonfinite": "skip", "checkpoint": EVERY_STEP}}
        for name, case in SKIPPED.items()
    },
    **{
        name: {**case, "config": ROLLBACK, "poison": ["loss", BAD_STEP, BAD_MICRO_BATCH]}
        for name, case in GONE_BACK.items()
    },
    "rollback-bf16": {"stage": 1, "precision": "bf16", "config": ROLLBACK, "poison": ["gradient", 4, 0]},
    "rollback-first": {"stage": 2, "config": ROLLBACK, "poison": ["loss", 1, 0]},
    "spike": {
        "stage": 1,
        "config": {"on_nonfinite": "skip", "spike_factor": 2},
        "poison": ["spike", BAD_STEP, BAD_MICRO_BATCH],
    },
    "unwatched-spike": {"stage": 1, "poison": ["spike", BAD_STEP, BAD_MICRO_BATCH]},
}


class Run:
    """What a case left."""

    def __init__(self, folder):
        self.folder = folder

    def parameters(self, step):
        return load_file(self.folder / "checkpoints" / f"step-{step:08d}" / "model.safetensors")

    def num_updates(self, step):
        manifest = self.folder / "checkpoints" / f"step-{step:08d}" / "manifest.json"
        return json.loads(manifest.read_text())["optimizer"]["num_steps"]

    def lines(self, name):
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    @property
    def num_skipped(self):
        return [record["num_skipped"] for record in self.lines("metrics.jsonl")]


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory):
    """Every case on 2 ranks, by name."""
    folder = tmp_path_factory.mktemp("nonfinite")
    cases = [{"name": name, "out_dir": str(folder), "start": None, **case} for name, case in CASES.items()]
    (folder / "cases.json").write_text(json.dumps(cases))
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *map(str, (HERE / "training_worker.py", folder / "cases.json", shards)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {name: Run(folder / name) for name in CASES}


def differ(here, there):
    return max(float((here[name] - there[name]).abs().max()) for name in here)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_by_default_the_run_stops_before_the_update_and_names_what_may_be_the_cause(pretrain_ranks, kind):
    program = (HERE / "poison_step.py", kind, BAD_STEP, BAD_MICRO_BATCH)
    ranks = pretrain_ranks("checkpoint.every=2", program=program)
    codes, (said,) = ranks.end()
    run = Run(ranks.folder)
    assert codes == [2]
    assert f"step {BAD_STEP}: the {kind} is not a finite number; lower optimizer.lr" in said
    assert [record["step"] for record in run.lines("metrics.jsonl")] == [1, 2]
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-00000002"]
    (incident,) = run.lines("nonfinite.jsonl")
    assert (incident["step"], incident["action"]) == (BAD_STEP, "stop")
    assert list(incident["sequences"]) == (["2"] if kind == "loss" else ["0", "1", "2"])
    assert all(len(ids) == 4 for ids in incident["sequences"].values())
    assert ("noun" in incident["tasks"]) == (kind == "loss")


@pytest.mark.parametrize("name", SKIPPED)
def test_a_skipped_step_is_counted_and_leaves_no_trace_in_the_parameters(runs, name):
    run = runs[name]
    assert run.num_skipped == [0, 0, 1, 1]
    record = run.lines("metrics.jsonl")[BAD_STEP - 1]
    assert (record["loss"] is None) == ("loss" in name)
    assert differ(run.parameters(2), run.parameters(3)) == 0
    assert differ(run.parameters(3), run.parameters(4)) >= 1e-4
    assert run.num_updates(4) == 3
    assert run.lines("nonfinite.jsonl")[0]["action"] == "skip"


@pytest.mark.parametrize("stage", STAGES)
def test_a_rolled_back_run_goes_on_from_the_checkpoint_with_the_data_after_the_bad_step(runs, stage):
    """The checkpoint is that of the step before the bad one, so that skipping must give the same.

    Up to rounding: the two engines were made one after the other in one process, where memory is aligned
    differently.
    """
    back, skipped = runs[f"rollback-stage{stage}"], runs[f"skip-loss-stage{stage}"]
    assert back.lines("nonfinite.jsonl")[0]["back_to"] == 2
    assert differ(back.parameters(2), back.parameters(4)) >= 1e-4
    assert differ(back.parameters(4), skipped.parameters(4)) <= 1e-8


def test_updates_since_the_checkpoint_are_undone_and_counted(runs):
    run = runs["rollback-bf16"]
    assert run.lines("nonfinite.jsonl")[0]["back_to"] == 2
    assert run.num_skipped == [0, 0, 0, 2]
    assert run.num_updates(4) == 2
    assert differ(run.parameters(2), run.parameters(4)) == 0


def test_a_run_that_has_no_checkpoint_yet_skips_instead(runs):
    (incident,) = runs["rollback-first"].lines("nonfinite.jsonl")
    assert incident["action"] == "skip"
    assert runs["rollback-first"].num_updates(4) == 3


def test_a_spike_is_treated_alike_where_that_is_asked_for(runs):
    (incident,) = runs["spike"].lines("nonfinite.jsonl")
    assert incident["reason"] == "the average loss is a spike"
    assert len(incident["tasks"]) == 1
    assert runs["spike"].num_skipped == [0, 0, 1, 1]
    assert runs["unwatched-spike"].num_skipped == [0, 0, 0, 0]
    assert not (runs["unwatched-spike"].folder / "nonfinite.jsonl").exists()


def test_a_run_that_only_skips_stops_after_a_while(pretrain_ranks):
    wild = ["optimizer.name=sgd", "optimizer.lr=1e20", "optimizer.grad_clip=0", "schedule.warmup_steps=0"]
    ranks = pretrain_ranks("steps=30", "on_nonfinite=skip", *wild)
    assert ranks.end()[0] == [2]
    actions = [incident["action"] for incident in Run(ranks.folder).lines("nonfinite.jsonl")]
    assert actions == ["skip"] * 10 + ["stop"]
    assert "NaN" not in (ranks.folder / "metrics.jsonl").read_text()


@given(
    usual=st.lists(st.floats(2.0, 2.5), min_size=1, max_size=30),
    factor=st.floats(1.5, 4.0),
    height=st.floats(0.5, 10.0),
)
def test_what_counts_as_a_spike_is_measured_against_the_steps_before(usual, factor, height):
    guard = LossGuard(torch.tensor([True, True, False]), factor)
    counts = torch.tensor([2, 0, 5])  # the second task is absent, the third term is no task

    def judge(loss):
        return guard.judge(torch.tensor([2 * loss, 0.0, 1e9], dtype=torch.float64), counts)

    assert all(judge(loss) is None for loss in usual)
    before = guard.state_dict()
    if height > factor * 2.5:
        assert judge(height) is Refusal.SPIKE
        assert guard.state_dict() == before
    elif height < factor * 2.0:
        assert judge(height) is None

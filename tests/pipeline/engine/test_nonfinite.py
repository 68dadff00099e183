"""A step whose loss or gradient is no number, or a spike, changes no parameter; what then is a choice."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipeline.engine.guard import LossGuard, Refusal

HERE = Path(__file__).parent
STAGES = range(4)
LAYOUTS = {f"fp32-stage{stage}": {"stage": stage} for stage in STAGES}
LAYOUTS |= {f"bf16-stage{stage}": {"stage": stage, "precision": "bf16"} for stage in STAGES[1:]}
LAYOUTS |= {
    "lamb-stage2": {"stage": 2, "optimizer": "lamb"},
    "muon-stage3": {"stage": 3, "optimizer": "muon"},
}


def case(on_nonfinite, kind, bad_steps, layout="fp32-stage1", every=2, **config):
    """6 steps of 3 micro-batches of 2 sequences; the third one of the bad steps is poisoned."""
    settings = {
        "steps": 6,
        "on_nonfinite": on_nonfinite,
        "checkpoint": {"every": every, "keep_last": 9},
        "schedule": {"name": "linear", "warmup_steps": 2},
    }
    return {**LAYOUTS[layout], "poison": [kind, bad_steps, 2], "config": settings | config}


CASES = {"healthy": case("stop", "loss", [])}
for layout in LAYOUTS:
    CASES |= {
        f"skip-loss-{layout}": case("skip", "loss", [3], layout, every=1),
        f"skip-gradient-{layout}": case("skip", "gradient", [3], layout, every=1),
        f"back-{layout}": case("rollback", "loss", [4], layout),
        f"exploded-{layout}": case("rollback", "explosion", [3], layout),
        f"twin-{layout}": case("skip", "loss", [3, 4], layout),
    }
CASES |= {
    "back-twice": case("rollback", "gradient", [4, 6]),
    "back-without-checkpoint": case("rollback", "loss", [1], "fp32-stage2"),
    "spike": case("skip", "spike", [3], spike_factor=2),
    "unwatched-spike": case("skip", "spike", [3]),
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

    def column(self, name):
        return [record[name] for record in self.lines("metrics.jsonl")]


@pytest.fixture(scope="module")
def runs(shards, tmp_path_factory, run_worker):
    """Every case on 2 ranks, by name."""
    folder = tmp_path_factory.mktemp("nonfinite")
    cases = [{"name": name, "out_dir": str(folder), "start": None, **case} for name, case in CASES.items()]
    (folder / "cases.json").write_text(json.dumps(cases))
    run_worker("training_worker.py", folder / "cases.json", shards, world_size=2)
    return {name: Run(folder / name) for name in CASES}


def differ(here, there):
    return max(float((here[name] - there[name]).abs().max()) for name in here)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_by_default_the_run_stops_before_the_update_and_names_what_may_be_the_cause(pretrain_ranks, kind):
    ranks = pretrain_ranks("checkpoint.every=2", program=(HERE / "poison_step.py", kind, 3, 2))
    codes, (said,) = ranks.end()
    run = Run(ranks.folder)
    assert codes == [2]
    assert f"step 3: the {kind} is not a finite number, its update is not made; go on with a lower" in said
    assert run.column("step") == [1, 2]
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-00000002"]
    (incident,) = run.lines("nonfinite.jsonl")
    assert (incident["step"], incident["action"]) == (3, "stop")
    assert list(incident["sequences"]) == (["2"] if kind == "loss" else ["0", "1", "2"])
    assert all(len(ids) == 4 for ids in incident["sequences"].values())
    assert ("noun" in incident["tasks"]) == (kind == "loss")


def test_what_the_stopped_run_is_told_to_do_can_be_done(pretrain_ranks):
    """The bad step is gone with the poison; the checkpoint before it is the start."""
    settings = ("steps=4", "checkpoint.every=2", "schedule.name=constant")
    assert pretrain_ranks(*settings, program=(HERE / "poison_step.py", "loss", 3, 2)).end()[0] == [2]
    again = pretrain_ranks(*settings, "optimizer.lr=1e-5", "optimizer.grad_clip=0.1")
    codes, (said,) = again.end()
    assert codes == [0]
    assert "going on after step 2 with optimizer.lr 1e-05, not 0.001, optimizer.grad_clip 0.1, not 1" in said
    assert Run(again.folder).column("lr")[2:] == [1e-5, 1e-5]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_a_skipped_step_is_counted_and_leaves_no_trace_in_the_parameters(runs, kind, layout):
    run = runs[f"skip-{kind}-{layout}"]
    assert run.column("num_skipped") == [0, 0, 1, 1, 1, 1]
    assert (run.column("loss")[2] is None) == (kind == "loss")
    assert differ(run.parameters(2), run.parameters(3)) == 0
    assert differ(run.parameters(3), run.parameters(4)) >= 1e-4
    assert run.num_updates(6) == 5
    assert run.column("lr") == runs["healthy"].column("lr")
    assert run.lines("nonfinite.jsonl")[0]["action"] == "skip"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", ["back", "exploded"])
def test_a_rolled_back_run_goes_on_from_the_checkpoint_with_the_data_after_the_bad_step(runs, how, layout):
    """In step 4 it goes back to step 2. Its twin has left out steps 3 and 4, and so takes the same step 5.

    Up to rounding: the engines were made one after the other in one process, where memory is aligned
    differently.
    """
    run, twin = runs[f"{how}-{layout}"], runs[f"twin-{layout}"]
    (incident,) = run.lines("nonfinite.jsonl")
    assert (incident["step"], incident["back_to"]) == (4, 2)
    assert run.column("num_skipped") == [0, 0, 0, 2, 2, 2]
    assert run.num_updates(6) == twin.num_updates(6) == 4
    assert run.column("loss")[4:] == pytest.approx(twin.column("loss")[4:], abs=1e-6)
    if how == "back":
        assert run.column("lr") == twin.column("lr") == runs["healthy"].column("lr")
    assert differ(run.parameters(6), twin.parameters(6)) <= (1e-8 if "fp32" in layout else 1e-4)
    assert differ(run.parameters(2), run.parameters(6)) >= 5e-4


def test_updates_are_counted_as_undone_once(runs):
    """Steps 3 and 4 are undone, then 5 and 6."""
    run = runs["back-twice"]
    assert [incident["back_to"] for incident in run.lines("nonfinite.jsonl")] == [2, 4]
    assert run.column("num_skipped") == [0, 0, 0, 2, 2, 4]
    assert run.num_updates(6) == 2
    assert differ(run.parameters(2), run.parameters(6)) == 0


def test_a_run_that_has_no_checkpoint_yet_skips_instead(runs):
    (incident,) = runs["back-without-checkpoint"].lines("nonfinite.jsonl")
    assert incident["action"] == "skip"
    assert runs["back-without-checkpoint"].num_updates(6) == 5


def test_a_spike_is_treated_alike_where_that_is_asked_for(runs):
    (incident,) = runs["spike"].lines("nonfinite.jsonl")
    assert incident["reason"] == "the average loss is a spike"
    assert len(incident["tasks"]) == 1
    assert runs["spike"].column("num_skipped") == [0, 0, 1, 1, 1, 1]
    assert runs["unwatched-spike"].column("num_skipped") == [0, 0, 0, 0, 0, 0]
    assert not (runs["unwatched-spike"].folder / "nonfinite.jsonl").exists()


WILD = ("optimizer.name=sgd", "optimizer.lr=1e20", "optimizer.grad_clip=0", "schedule.warmup_steps=0")


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_run_whose_steps_all_fail_stops_after_a_while(pretrain_ranks, action):
    ranks = pretrain_ranks("steps=30", "checkpoint.every=2", f"on_nonfinite={action}", *WILD)
    codes, (said,) = ranks.end()
    assert codes == [2]
    run = Run(ranks.folder)
    assert [incident["action"] for incident in run.lines("nonfinite.jsonl")][-2:] == [action, "stop"]
    assert "11 steps in a row had no update" in said
    assert "NaN" not in (ranks.folder / "metrics.jsonl").read_text()


def test_a_run_that_ends_among_failing_steps_does_not_call_itself_done(pretrain_ranks):
    ranks = pretrain_ranks("steps=6", "checkpoint.every=2", "on_nonfinite=skip", *WILD)
    codes, (said,) = ranks.end()
    assert codes == [1]
    assert "error: step 6 is not saved, since the last steps had no update" in said
    assert not (ranks.folder / "checkpoints" / "step-00000006").exists()


@given(
    usual=st.lists(st.floats(2.0, 2.5), min_size=1, max_size=30),
    factor=st.floats(1.5, 4.0),
    height=st.floats(0.5, 10.0),
)
def test_what_counts_as_a_spike_is_measured_against_the_steps_before(usual, factor, height):
    guard = LossGuard(torch.tensor([True, True, False]), factor)
    counts = torch.tensor([2, 0, 5])  # the second task is absent, the third term is no task

    def judge(loss):
        refusal = guard.judge(torch.tensor([2 * loss, 0.0, 1e9], dtype=torch.float64), counts)
        guard.count(refusal)
        return refusal

    assert all(judge(loss) is None for loss in usual)
    if height > factor * 2.5:
        assert judge(height) is Refusal.SPIKE
    elif height < factor * 2.0:
        assert judge(height) is None

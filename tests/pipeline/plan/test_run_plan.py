"""Batch, tasks, checkpoint and time of a plan follow the training that it plans."""

import json
import re
from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from data_prep.errors import UserError
from data_prep.schema import read_manifest
from pipeline.assembly import text_data
from pipeline.data.order import StepOrder
from pipeline.data.text import task_quotas
from pipeline.plan.duration import Throughput, Utilisation, speed_of
from pipeline.plan.report import print_plan
from pipeline.plan.tasks import scarcest
from pipeline.run_file import load_config

from .conftest import CONFIGS

NARROW = ["model.hidden_size=32"]


@pytest.mark.parametrize("quota", ["uniform", "proportional", "{verb: 10, noun: 22}"])
def test_sequences_per_task_are_those_that_the_steps_take(shards, plan_of, quota):
    overrides = [f"data.path={shards}", f"data.quota={quota}", "steps=7", *NARROW]
    config, manifest = load_config(CONFIGS / "tiny.yaml", overrides), read_manifest(shards)
    names = manifest.task_names
    sizes, quotas = [manifest.train_rows(name) for name in names], task_quotas(config.data.quota, manifest)
    order = StepOrder(sizes, quotas, config.batch.global_size, config.seed)
    taken = Counter(names[task] for step in range(7) for task, _ in order.step(step))
    uses = plan_of("tiny", overrides).tasks
    assert {use.name: round(use.sequences_per_step * 7) for use in uses} == {
        name: taken[name] for name in names
    }
    assert all(use.epochs == pytest.approx(taken[use.name] / use.num_sequences) for use in uses)
    assert scarcest(uses).epochs == max(use.epochs for use in uses)


def test_tokens_are_those_of_real_batches(shards, plan_of):
    overrides = [f"data.path={shards}", *NARROW]
    data = text_data(load_config(CONFIGS / "tiny.yaml", overrides))
    tokens = sum(data.micro_batch(step, index).num_tokens for step in range(10) for index in range(2))
    assert plan_of("tiny", overrides).tokens_per_step == pytest.approx(tokens / 10, rel=0.05)


def test_without_shards_there_is_everything_but_epochs(plan_of):
    plan = plan_of("tiny", NARROW)
    assert plan.tasks is None
    assert plan.tokens_per_step == 32 * 128
    assert plan.memory and plan.counts.flops > 0


@pytest.mark.parametrize(
    "world_size, rounds, num_idle, extra_forward", [(1, 8, 0, True), (3, 3, 1, True), (8, 1, 0, False)]
)
def test_ranks_idle_in_the_last_round_are_counted(plan_of, world_size, rounds, num_idle, extra_forward):
    batch = plan_of("tiny", [*NARROW, "batch.micro_size=4", "objective.estimator=two_pass"], world_size).batch
    assert (batch.rounds, batch.num_idle, batch.extra_forward) == (rounds, num_idle, extra_forward)


def test_average_needs_no_extra_pass(plan_of):
    batch = plan_of("tiny", [*NARROW, "objective.name=average", "objective.estimator=two_pass"]).batch
    assert batch.rounds == 2
    assert not batch.extra_forward


def test_a_step_takes_its_rounds_at_the_given_speed(plan_of):
    overrides = [*NARROW, "batch.micro_size=4", "objective.estimator=two_pass"]
    plan = plan_of("tiny", overrides, 3, speed=Throughput(1000.0))
    assert plan.duration.step_s == pytest.approx(3 * 4 * 128 / 1000)
    plan = plan_of("tiny", overrides, 3, speed=Utilisation(0.5, 2.0))
    assert plan.duration.step_s == pytest.approx(3 * (plan.counts.flops + plan.counts.forward_flops) / 1e12)
    assert plan.duration.run_s == pytest.approx(20 * plan.duration.step_s)


def test_an_extra_forward_pass_is_priced_from_the_step_on_that_has_it(plan_of):
    overrides = [*NARROW, "steps=20", "objective.estimator=two_pass", "objective.start_step=15"]
    plan = plan_of("tiny", overrides, speed=Utilisation(0.5, 2.0))
    forward_flops, flops = plan.counts.forward_flops, plan.counts.flops
    assert plan.duration.step_s == pytest.approx(2 * (flops + forward_flops) / 1e12)
    assert plan.duration.run_s == pytest.approx(2 * (20 * flops + 5 * forward_flops) / 1e12)
    screen = Console(file=StringIO(), width=200)
    print_plan(plan, screen, None, None)
    assert "estimator two_pass, a forward pass more for each from step 15 on" in screen.file.getvalue()


@pytest.mark.parametrize("keys, num_tasks", [([], 9), (["objective.tasks=[noun, verb]"], 2)])
def test_gradients_of_tasks_are_priced_and_are_no_flops_of_the_model(plan_of, keys, num_tasks):
    usual = plan_of("tiny", [*NARROW, "objective.name=average"])
    overrides = [*NARROW, "objective.name=gradnorm", *keys]
    plan = plan_of("tiny", overrides, speed=Utilisation(0.5, 2.0))
    assert plan.counts.flops == usual.counts.flops
    gradients = num_tasks * 2 * plan.case.num_masked * 32**2
    assert plan.counts.hardware_flops == plan.counts.flops + gradients
    assert plan.duration.step_s == pytest.approx(2 * plan.counts.hardware_flops / 1e12)
    screen = Console(file=StringIO(), width=200)
    print_plan(plan, screen, None, None)
    assert f"gradnorm, estimator ema, with the gradients of {num_tasks} tasks" in screen.file.getvalue()


@pytest.mark.parametrize(
    "given", [(None, 0.4, None), (None, None, 900.0), (10.0, 0.4, 900.0), (0.0, None, None)]
)
def test_half_a_speed_and_two_speeds_are_refused(given):
    with pytest.raises(UserError):
        speed_of(*given)


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "muon", "sgd"])
def test_a_checkpoint_is_as_large_as_a_real_one(pipeline, shards, tmp_path, plan_of, optimizer):
    overrides = [f"data.path={shards}", f"optimizer.name={optimizer}", "steps=2", "model.size=small"]
    small_run = [f"out_dir={tmp_path}", "validate.every=0", "batch.global_size=2", "batch.micro_size=2"]
    finished = pipeline("pretrain", CONFIGS / "tiny.yaml", *overrides, *small_run)
    assert finished.returncode == 0, finished.stderr
    (checkpoint,) = (tmp_path / "tiny" / "checkpoints").iterdir()
    written = {path.name: path.stat().st_size for path in checkpoint.rglob("*.safetensors")}
    planned = plan_of("tiny", overrides).checkpoint
    assert planned.model == pytest.approx(written["model.safetensors"], rel=0.01)
    assert planned.total == pytest.approx(sum(written.values()), rel=0.01)


def test_the_smallest_stage_that_fits_is_named_and_none_where_none_does(plan_of):
    plan = plan_of("tiny", ["precision=bf16"], world_size=4)
    peaks = {stage: memory.peak for stage, memory in plan.memory.items()}
    assert plan.smallest_stage(max(peaks.values())) == 1
    assert plan.smallest_stage(min(peaks.values()) - 1) is None


REFUSED = {
    "compiled layers": (["compile=true"], "does not go with compile=true"),
    "Apex, which need not be on the machine that plans": (
        ["optimizer.implementation=apex"],
        "optimizer.implementation apex miscounts steps",
    ),
}


@pytest.mark.parametrize(("overrides", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_stage_at_which_the_run_would_be_refused_is_left_out(plan_of, overrides, reason):
    plan = plan_of("tiny", [*NARROW, *overrides])
    assert list(plan.memory) == [0, 1, 2]
    assert reason in plan.refusals.pop(3)
    assert not plan.refusals


def test_the_smallest_stage_that_fits_is_one_that_can_start(plan_of):
    many_parameters = ["model.size=1.3b", "precision=bf16", "batch.micro_size=1"]
    plan = plan_of("tiny", many_parameters, world_size=64)
    below_stage_2 = (plan.memory[2].peak + plan.memory[3].peak) / 2
    assert plan.smallest_stage(below_stage_2) == 3
    assert plan_of("tiny", [*many_parameters, "compile=true"], 64).smallest_stage(below_stage_2) is None


IMPOSSIBLE = {
    "what DeepSpeed has for its own optimizers": (
        {"stage": 3, "zenflow": {"offload": True}},
        {},
        "gpu",
        '"zero_optimization.zenflow" needs an optimizer of DeepSpeed',
    ),
    "groups that do not divide the ranks": (
        {"stage": 3, "zero_hpz_partition_size": 2},
        {},
        "gpu",
        '"zero_optimization.zero_hpz_partition_size" 2 does not divide 3',
    ),
    "activations moved from the host to the host": (
        {"stage": 1},
        {"activation_checkpointing": {"cpu_checkpointing": True}},
        "cpu",
        '"activation_checkpointing.cpu_checkpointing" needs a GPU',
    ),
}


@pytest.mark.parametrize(("zero", "sections", "device", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_can_start_at_no_stage_is_refused(tmp_path, plan_of, zero, sections, device, reason):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": zero, **sections}))
    with pytest.raises(UserError, match=re.escape(f"{path}: {reason}")):
        plan_of("tiny", [*NARROW, f"deepspeed={path}"], 3, device)

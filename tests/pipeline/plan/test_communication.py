"""The planned collectives of a step are those that the engine makes, byte by byte."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.plan.report import print_plan

WORKER = Path(__file__).parent / "communication_worker.py"
# Sizes that neither 3 nor 4 ranks divide: ranks' parts end in padding.
SMALL = ["model.hidden_size=30", "model.intermediate_size=67", "data.num_workers=0", "validate.every=0"]
AVERAGE, TWO_PASS, BATCH, EMA = (
    ["objective.name=average"],
    *([f"objective.estimator={estimator}"] for estimator in ("two_pass", "batch", "ema")),
)
LAMB, MUON = (["optimizer.name=lamb"], ["optimizer.name=muon"])
MODERNBERT = ["model.backbone=modernbert", "model.num_heads=1"]
OPERATIONS = {
    "allreduce_": "all_reduce",
    "_allgather_base_": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
    "reduce_": "reduce",
    "alltoall_base_": "all_to_all",
}
DIVIDED = {"stage3_param_persistence_threshold": 0}
AT_ONCE = {"stage3_max_reuse_distance": 0, "stage3_prefetch_bucket_size": 0}
"""Lets go of a parameter right after its use: what the ZeRO paper counts."""


@dataclass(frozen=True)
class Case:
    """A run: ZeRO stage, micro-batches per rank, overrides of the run file, further keys of the JSON."""

    stage: int
    rounds: int
    overrides: list[str] = field(default_factory=list)
    zero: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    world_size: int = 2


RUN_AGAIN = {"activation_checkpointing": {}}
ON_HOST = {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}


CASES = {
    "stage0": Case(0, 2, TWO_PASS),
    "stage0-muon": Case(0, 1, [*AVERAGE, *MUON]),
    "stage1": Case(1, 2, AVERAGE),
    "stage1-batch": Case(1, 3, BATCH),
    "stage1-gradnorm": Case(1, 2, ["objective.name=gradnorm"], world_size=3),
    "stage1-lamb": Case(1, 1, [*TWO_PASS, *LAMB]),
    "stage1-modernbert-muon": Case(1, 1, [*MODERNBERT, *MUON], world_size=3),
    "stage2-ema": Case(2, 2, EMA, world_size=3),
    "stage2-bf16-sent-as-fp32": Case(2, 1, ["precision=bf16"], settings={"communication_data_type": "fp32"}),
    "stage2-to-owners": Case(2, 1, zero={"use_multi_rank_bucket_allreduce": False}),
    "stage3": Case(3, 2, AVERAGE),
    "stage3-not-scattered": Case(3, 1, zero={"reduce_scatter": False}),
    "stage3-some-persistent": Case(3, 2, TWO_PASS, {"stage3_param_persistence_threshold": 1_000}),
    "stage3-within-reach": Case(3, 1, [], {**DIVIDED, **AT_ONCE, "stage3_max_reuse_distance": 64_376}),
    "stage3-two_pass": Case(3, 2, TWO_PASS, DIVIDED),
    "stage3-at-once": Case(3, 2, TWO_PASS, {**DIVIDED, **AT_ONCE}, world_size=3),
    "stage3-by-two": Case(3, 2, AVERAGE, {**DIVIDED, "zero_hpz_partition_size": 2}, world_size=4),
    "stage3-lamb-on-host": Case(3, 1, LAMB, {**DIVIDED, **ON_HOST, "sub_group_size": 3_000}),
    "stage3-muon": Case(3, 1, MUON, {"sub_group_size": 3_000}, world_size=4),
    "stage3-again": Case(3, 1, AVERAGE, {**DIVIDED, **AT_ONCE}, RUN_AGAIN),
    "stage3-again-two_pass": Case(
        3, 2, TWO_PASS, DIVIDED, {"activation_checkpointing": {"number_checkpoints": 1}}
    ),
    "stage3-again-modernbert": Case(
        3, 1, MODERNBERT, {**DIVIDED, **AT_ONCE, "stage3_max_reuse_distance": 20_000}, RUN_AGAIN
    ),
}


@pytest.fixture(scope="module")
def overrides(shards, tmp_path_factory):
    """Those of `configs/tiny.yaml`, by case."""
    folder = tmp_path_factory.mktemp("communication")

    def of(name, case):
        path = folder / f"{name}.json"
        path.write_text(
            json.dumps({**case.settings, "zero_optimization": {"stage": case.stage, **case.zero}})
        )
        # Of 3 ranks, one has no micro-batch in the last round.
        num_micro_batches = case.rounds * case.world_size - (case.world_size == 3)
        batch = [f"batch.global_size={2 * num_micro_batches}", "batch.micro_size=2"]
        return [
            *SMALL,
            *batch,
            *case.overrides,
            f"data.path={shards}",
            f"out_dir={folder}",
            f"deepspeed={path}",
        ]

    return {name: of(name, case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def measured(overrides, tmp_path_factory):
    """The messages of a step, by case a list for each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = {
        name: {"world_size": case.world_size, "overrides": overrides[name]} for name, case in CASES.items()
    }
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder / "cases.json")],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in CASES}


def bytes_of(messages):
    """By operation and number of ranks."""
    total = Counter()
    for operation, num_bytes, num_ranks in messages:
        total[OPERATIONS[operation], num_ranks] += num_bytes
    return total


@pytest.mark.parametrize("name", CASES)
def test_a_step_sends_the_bytes_that_were_planned(name, overrides, measured, plan_of):
    case = CASES[name]
    plan = plan_of("tiny", overrides[name], case.world_size, device="cpu")
    planned, least = Counter(), Counter()
    for traffic in plan.traffic[case.stage]:
        planned[traffic.operation, traffic.num_ranks] += traffic.num_bytes
        least[traffic.operation, traffic.num_ranks] += traffic.num_messages
    sent, number = Counter(), Counter()
    for of_rank in measured[name]:
        sent |= bytes_of(of_rank)
        number |= Counter((OPERATIONS[operation], num_ranks) for operation, _, num_ranks in of_rank)
    assert sent == planned
    assert number >= least if case.stage == 3 else number == least


def test_a_plan_names_the_keys_that_its_figures_do_not_follow(plan_of):
    quantized = plan_of("tiny", ["deepspeed=ds_configs/zero3-quantized.json"], world_size=8)
    screen = Console(file=StringIO(), width=200)
    print_plan(quantized, screen, None, None)
    said = screen.file.getvalue()
    assert "Stage 3 without zero_quantized_weights: weights are counted whole" in said
    assert "Stage 3 without zero_quantized_gradients: gradients are counted whole" in said
    assert not plan_of("tiny", ["deepspeed=ds_configs/zero3.json"], world_size=8).left_out

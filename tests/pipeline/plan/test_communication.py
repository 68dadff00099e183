"""The planned collectives of a step are those that the engine makes, byte by byte."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).parent / "communication_worker.py"
# Sizes that neither 3 nor 4 ranks divide: ranks' parts end in padding.
SMALL = ["model.hidden_size=30", "model.intermediate_size=67", "data.num_workers=0", "validate.every=0"]
AVERAGE, TWO_PASS, BATCH, EMA = (
    ["objective.name=average"],
    *([f"objective.estimator={estimator}"] for estimator in ("two_pass", "batch", "ema")),
)
OPERATIONS = {
    "allreduce_": "all_reduce",
    "_allgather_base_": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
    "reduce_": "reduce",
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


CASES = {
    **{f"average-stage{stage}": Case(stage, 2, AVERAGE) for stage in range(4)},
    **{f"minimax-stage{stage}": Case(stage, 1, TWO_PASS) for stage in range(4)},
    **{f"two_pass-stage{stage}": Case(stage, 2, TWO_PASS) for stage in range(4)},
    "batch": Case(1, 3, BATCH),
    "bf16-sent-as-fp32": Case(2, 1, ["precision=bf16"], settings={"communication_data_type": "fp32"}),
    "to-owners": Case(2, 1, zero={"use_multi_rank_bucket_allreduce": False}),
    "not-scattered": Case(3, 1, zero={"reduce_scatter": False}),
    "some-persistent": Case(3, 2, TWO_PASS, {"stage3_param_persistence_threshold": 1_000}),
    "divided-within-reach": Case(3, 1, [], {**DIVIDED, **AT_ONCE, "stage3_max_reuse_distance": 64_376}),
    "divided-two_pass": Case(3, 2, TWO_PASS, DIVIDED),
    "three-ranks-stage2": Case(2, 2, EMA, world_size=3),
    "three-ranks-stage3": Case(3, 2, TWO_PASS, {**DIVIDED, **AT_ONCE}, world_size=3),
    "four-ranks-stage3": Case(3, 1, TWO_PASS, {**DIVIDED, **AT_ONCE}, world_size=4),
    "four-ranks-by-two": Case(3, 2, AVERAGE, {**DIVIDED, "zero_hpz_partition_size": 2}, world_size=4),
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
    """The messages of a step on rank 0, by case."""
    messages = {}
    for world_size in (2, 3, 4):
        folder = tmp_path_factory.mktemp(f"ranks-{world_size}")
        names = [name for name, case in CASES.items() if case.world_size == world_size]
        (folder / "cases.json").write_text(json.dumps({name: overrides[name] for name in names}))
        command = [*(sys.executable, "-m", "torch.distributed.run", "--standalone")]
        command += [f"--nproc-per-node={world_size}", str(WORKER), str(folder / "cases.json")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr
        messages |= {name: json.loads((folder / f"{name}.json").read_text()) for name in names}
    return messages


@pytest.mark.parametrize("name", CASES)
def test_a_step_sends_the_bytes_that_were_planned(name, overrides, measured, plan_of):
    case = CASES[name]
    plan = plan_of("tiny", overrides[name], case.world_size, device="cpu")
    bytes_planned, bytes_sent = Counter(), Counter()
    least, number = Counter(), Counter()
    for traffic in plan.traffic[case.stage]:
        bytes_planned[traffic.operation, traffic.num_ranks] += traffic.num_bytes
        least[traffic.operation, traffic.num_ranks] += traffic.num_messages
    for operation, num_bytes, num_ranks in measured[name]:
        bytes_sent[OPERATIONS[operation], num_ranks] += num_bytes
        number[OPERATIONS[operation], num_ranks] += 1
    assert bytes_sent == bytes_planned
    assert number >= least if case.stage == 3 else number == least

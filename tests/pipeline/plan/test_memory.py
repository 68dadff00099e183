"""Memory per ZeRO stage is what DeepSpeed's estimators say, and what a process really takes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

from pipeline.plan.memory import MemoryCase, stage_memory
from pipeline.plan.simulation import ParameterCounts, PassCounts

WORKER = Path(__file__).parent / "peak_worker.py"
CHECKPOINTING = Path(__file__).parents[3] / "ds_configs" / "zero2-checkpointing.json"


def mixed_precision_states(num_parameters, world_size, stage):
    """Parameters, gradients and optimizer of a rank, in bytes: bf16 with AdamW."""
    case = MemoryCase(
        parameters=ParameterCounts(num_parameters, num_parameters, num_parameters // 10),
        counts=PassCounts(0, 0, 0, 0, 0),
        weight_bytes=2,
        gradient_bytes=2,
        num_moments=2,
        world_size=world_size,
        accumulates=False,
        device="gpu",
        zero=DeepSpeedZeroConfig(stage=stage),
    )
    memory = stage_memory(case, stage)
    return memory.parameters + memory.gradients + memory.optimizer


@pytest.mark.parametrize("num_parameters", [336_226_108, 1_280_595_772], ids=["large", "1.3b"])
@pytest.mark.parametrize("num_nodes", [1, 8])
def test_states_at_stages_2_and_3_are_those_of_deepspeeds_estimators(num_parameters, num_nodes):
    place = {"num_gpus_per_node": 8, "num_nodes": num_nodes, "cpu_offload": False}
    _, expected = estimate_zero2_model_states_mem_needs(num_parameters, **place)
    assert mixed_precision_states(num_parameters, 8 * num_nodes, 2) == pytest.approx(expected, rel=0.05)
    _, total, of_layer = estimate_zero3_model_states_mem_needs(
        num_parameters, largest_layer_params=num_parameters // 20, **place
    )
    # What is gathered for a layer stands among the buffers here.
    assert mixed_precision_states(num_parameters, 8 * num_nodes, 3) == pytest.approx(
        total - of_layer, rel=0.05
    )


def test_the_run_files_memory_falls_from_stage_to_stage(plan_of):
    memory = plan_of("bert-1.3b", ["model.num_layers=2"], world_size=64).memory
    assert list(memory) == [1, 2, 3]
    parameters = [stage.parameters for stage in memory.values()]
    gradients = [stage.gradients for stage in memory.values()]
    assert parameters[0] == parameters[1] > 60 * parameters[2]
    assert gradients[0] > 20 * gradients[1]
    assert len({stage.optimizer for stage in memory.values()}) == 1


PEAKS = {
    "stage 0, most in activations": (0, 1, ["batch.micro_size=32"]),
    "stage 1, two ranks": (1, 2, ["batch.global_size=8", "batch.micro_size=4"]),
    "stage 2, bf16, two rounds": (2, 1, ["batch.micro_size=16", "precision=bf16"]),
    "stage 2, layers that run again": (2, 1, ["batch.micro_size=32", f"deepspeed={CHECKPOINTING}"]),
    "stage 3, states and activations": (3, 1, ["batch.global_size=8", "batch.micro_size=8"]),
    "stage 0, ModernBERT, most in activations": (
        0,
        1,
        ["model.backbone=modernbert", "model.size=small", "batch.micro_size=32"],
    ),
}


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be measured here"
)
@pytest.mark.parametrize("stage, world_size, overrides", PEAKS.values(), ids=PEAKS.keys())
def test_the_peak_is_the_one_of_a_real_run(stage, world_size, overrides, shards, plan_of):
    # By default the C library keeps some of what tensors give back, which is no tensor's memory.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    keys = [f"data.path={shards}", "model.size=medium", "objective.name=average", *overrides]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={world_size}",
    ]
    command = [*launcher, str(WORKER), str(stage), *keys]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    measured = max(map(int, re.findall(r"^(\d+)$", done.stdout, re.MULTILINE)))
    planned = plan_of("tiny", keys, world_size, device="cpu").memory[stage].peak
    assert planned == pytest.approx(measured, rel=0.12)

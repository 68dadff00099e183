"""Every Triton kernel compiles for five GPUs, without one; and the check finds what it is there to find.

In processes of their own: here, Triton runs its interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
KERNELS = {
    "row_on_chip",
    "row_in_loop",
    "sums_of_a_task",
    "partial_log_sum_exp",
    "combine",
    "gradient_of_classes",
    "softmax_of_valid",
}
TARGETS = {"sm_80", "sm_90", "sm_100", "sm_120", "gfx942"}

BROKEN = """
import dataclasses, json, sys
from unittest import mock
import torch
from compile_kernels import MATRIX, WIDE, check, launches_of_rows, launches_of_tiles
from gpus import GPUS
from recorded_launches import recording
from task_kernels import triton_rows, triton_tiles
from task_kernels.triton_logits import TileConfiguration
from task_kernels.triton_rows import RowConfiguration

a100, *_, mi300x = GPUS

def failures_of_tile(gpu, *tile):
    with mock.patch.object(triton_tiles, "tile_configuration", lambda *_: TileConfiguration(*tile)):
        return check(gpu, launches_of_tiles(gpu, torch.bfloat16, 768, True)[0]).failures

def failures_of_unpadded_rows():
    logits = torch.empty(8, 30_522, dtype=torch.bfloat16, device="meta")
    with recording("", a100.target, 1, {"_row_on_chip": (WIDE,)}) as launches:
        triton_rows.softmax_minus_onehot_(logits, None, torch.empty(8, dtype=torch.int64, device="meta"))
    return check(a100, launches[0]).failures

def failures_of_a_block_of(size):
    with mock.patch.object(triton_rows, "row_configuration", lambda *_: RowConfiguration(True, size, 32)):
        return check(a100, launches_of_rows(a100, torch.bfloat16, 2_000, True)[0]).failures

def failures_of_fp32_on_tensor_cores():
    launch = launches_of_tiles(a100, torch.float32, 768, True)[0]
    return check(a100, dataclasses.replace(launch, needs=(MATRIX,))).failures

json.dump({
    "spills": failures_of_tile(a100, 128, 256, 64, 8, 3),
    "shared": failures_of_tile(mi300x, 128, 128, 64, 8, 4),
    "unpadded": failures_of_unpadded_rows(),
    "does not compile": failures_of_a_block_of(3_000),
    "fp32": failures_of_fp32_on_tensor_cores(),
}, sys.stdout)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with the bench's modules, and Triton's compiler instead of its interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment | {"PYTHONPATH": str(BENCH)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_kernel_compiles_for_every_gpu_without_spills_within_its_memory(tmp_path):
    facts, table = tmp_path / "kernels.json", tmp_path / "kernels.md"
    done = run(str(BENCH / "compile_kernels.py"), "--json", str(facts), "--markdown", str(table))
    assert done.returncode == 0, done.stderr
    compiled = json.loads(facts.read_text())
    assert {(fact["kernel"], fact["target"]) for fact in compiled} == {
        (k, t) for k in KERNELS for t in TARGETS
    }
    assert all(fact["compiled"]["registers"] > 8 for fact in compiled)
    assert all(fact["compiled"]["spills"] == 0 for fact in compiled)
    of_rows = [fact for fact in compiled if fact["kernel"].startswith("row_")]
    assert all(fact["compiled"]["wide_loads"] > 0 for fact in of_rows)
    assert table.read_text().count("row_on_chip") == 10


def test_the_check_finds_spills_too_much_shared_memory_narrow_loads_and_missing_tensor_cores():
    done = run("-c", BROKEN)
    assert done.returncode == 0, done.stderr
    failures = {name: " ".join(found) for name, found in json.loads(done.stdout).items()}
    assert "instructions spill registers" in failures["spills"]
    assert "bytes of shared memory, limit 65,536" in failures["shared"]
    assert "no 128-bit loads" in failures["unpadded"]
    assert "does not compile" in failures["does not compile"]
    assert failures["fp32"] == "no matrix instructions"

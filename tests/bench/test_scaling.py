"""The benchmarks of scaling, run as a user runs them, on a small model."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SMALL = ["model.num_layers=1", "model.hidden_size=512", "model.num_heads=8", "batch.global_size=512"]


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)


def test_a_sheet_of_a_run_file_says_what_each_stage_sends():
    ended = run(BENCH / "scaling.py", "large", *SMALL, "--sequence-length", 32)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    num_parameters = int(re.search(r"([\d,]+) parameters", ended.stdout)[1].replace(",", ""))
    rows = [line.strip("│ ").split("│") for line in ended.stdout.splitlines() if line.startswith("│ 8 ")]
    traffic, at_stage_1, at_stage_3 = [[cell.strip() for cell in row] for row in rows]
    assert traffic[:3] == ["8", "512", "2"]
    # Bytes of bf16: gradients reduced to all, twice at stage 2 for two rounds, and parameters gathered.
    passes = [float(sent) * 1e9 / (2 * num_parameters * 7 / 8) for sent in traffic[3:5]]
    assert passes == pytest.approx([3, 5], abs=0.15)  # it prints two decimals
    assert (at_stage_1[1], at_stage_3[1]) == ("1", "3")


@pytest.mark.parametrize(
    "command, said",
    [
        (["order"], "1,000,000,000,000"),
        (["states"], "4,096"),
        (["store", "--num-words", 200], "words per second"),
        (["sockets"], "4 ranks: 4 sockets"),
    ],
    ids=["order", "states", "store", "sockets"],
)
def test_a_limit_is_measured(command, said):
    ended = run(BENCH / "scaling_limits.py", *command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert said in ended.stdout


def test_every_shard_that_is_opened_is_a_mapping_more(shards):
    file = next((shards / "train").glob("*/shard-00000.arrow"))
    ended = run(BENCH / "scaling_limits.py", "shards", file)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    cells = [line.strip("│ ").split("│") for line in ended.stdout.splitlines() if line.startswith("│ ")]
    assert [row[0].strip() for row in cells] == ["500", "2,000"]
    assert all(int(row[-1].replace(",", "")) >= int(row[0].replace(",", "")) for row in cells)

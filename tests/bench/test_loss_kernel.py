"""The benchmark of the loss kernel, run as a user runs it, on a problem of a few rows."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
TINY = shlex.split("--rounds 2 --rows 24 --vocab 97 --dims 16 --dtypes fp32 --tasks 3 --threads 1")

# Sums that are right with gradients that are not, and the other way round.
WRONG_KERNEL = f"""
import sys, task_kernels
right = task_kernels.task_loss_sums

def wrong(*arguments, memory):
    sums, counts = right(*arguments, memory=memory)
    error = 0.01 * sums
    return sums + (error - error.detach() if memory == "full" else error.detach()), counts

task_kernels.task_loss_sums = wrong
sys.path.insert(0, {str(BENCH)!r})
import loss_kernel
sys.exit(loss_kernel.main(sys.argv[1:]))
"""


def run(*command):
    return subprocess.run([sys.executable, *command, *TINY], capture_output=True, text=True)


def test_it_prints_its_tables_and_writes_every_number_and_a_picture(tmp_path):
    numbers, picture = tmp_path / "loss.json", tmp_path / "loss.png"
    ended = run(BENCH / "loss_kernel.py", "--json", numbers, "--plot", picture)

    assert ended.returncode == 0, ended.stderr
    for title in ("largest relative errors", "time and peak memory of a step", "Targets", "threads: 1"):
        assert title in ended.stdout
    (case,) = json.loads(numbers.read_text())["cases"]
    variants = {variant["name"]: variant for variant in case["variants"]}
    for name in ("ours, memory=full", "ours, memory=low", "plain torch", "linear_cross_entropy, 256"):
        assert len(variants[name]["seconds"]) == 2
        assert variants[name]["errors"].keys() == {"losses", "hidden", "weight", "bias"}
        assert max(variants[name]["errors"].values()) < 1e-5
        assert variants[name]["peak_bytes"] is not None
    for variant in variants.values():
        assert variant["seconds"] or variant["note"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_wrong_losses_and_wrong_gradients_are_reported_not_timed_and_end_in_1(tmp_path):
    numbers = tmp_path / "loss.json"
    ended = run("-c", WRONG_KERNEL, "--json", numbers)

    assert ended.returncode == 1, ended.stderr
    (case,) = json.loads(numbers.read_text())["cases"]
    variants = {variant["name"]: variant for variant in case["variants"]}
    for name in ("ours, memory=full", "ours, memory=low"):
        assert f"Wrong result: fp32, D = 16, {name}" in ended.stdout
        assert variants[name]["wrong"] and not variants[name]["seconds"]
    assert not variants["plain torch"]["wrong"]

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
    assert "Targets" not in ended.stdout  # they are meant for problems of real size
    for title in ("largest relative errors", "time and peak memory of a step", "threads: 1"):
        assert title in ended.stdout
    (case,) = json.loads(numbers.read_text())["cases"]
    variants = {variant["name"]: variant for variant in case["variants"]}
    for name in (
        "ours, memory=full",
        "ours, memory=low",
        "plain torch",
        "linear_cross_entropy, chunks of 256 rows",
    ):
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


def test_targets_compare_medians_of_ratios_within_rounds_and_peaks(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    from loss_measure import Found, Result
    from loss_peers import VARIANTS, Case
    from loss_report import judge

    seconds = {"ours, memory=full": [1.0, 2.0, 9.0], "three matrix products": [1.0, 2.0, 3.0]}
    seconds |= {"plain torch": [2.0, 4.0, 6.0], "torch.compile": [1.5, 3.0, 4.5]}
    peaks = {"ours, memory=full": 46, "ours, memory=low": 29, "plain torch": 100}
    results = {
        name: Result(name, seconds=seconds.get(name, []), peak_bytes=peaks.get(name)) for name in VARIANTS
    }
    verdicts = judge([Found(Case("fp32", 256, 1_024, 30_522, 9, "cpu"), results)])
    found = {(item.quantity, item.variant, item.base): (item.ratio, item.met) for item in verdicts}
    assert found == {
        ("time", "ours, memory=full", "three matrix products"): (1.0, True),
        ("time", "ours, memory=full", "fastest peer, torch.compile"): (1 / 1.5, True),
        ("time", "ours, torch fallback", "plain torch"): (None, None),
        ("peak", "ours, memory=full", "plain torch"): (0.46, False),
        ("peak", "ours, memory=low", "plain torch"): (0.29, True),
    }

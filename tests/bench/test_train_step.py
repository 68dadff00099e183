"""The benchmark of training steps, run as a user runs it, on a tiny model."""

import json
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
TINY = shlex.split("--rounds 1 --shapes tiny --vocab-size 1100 --length 48 --batch 4 --micro 2 --threads 1")

WITH_A_MISTAKE = f"""
import sys
sys.path.insert(0, {str(BENCH)!r})
import train_step, train_step_engines, train_step_peer
{{mistake}}
sys.exit(train_step.main(sys.argv[1:]))
"""
NO_UPDATE = "train_step_engines.PlainEngine.step = lambda self: None"
OTHER_ORDER = "right = train_step_peer.sequences; train_step_peer.sequences = lambda c: right(c)[::-1]"


def run(shards, *command):
    command = [sys.executable, *command, *TINY, "--shards", shards]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def test_it_prints_its_tables_and_writes_every_number_and_a_picture(shards, tmp_path):
    parts = "abcde" if find_spec("accelerate") else "ace"
    numbers, picture = tmp_path / "step.json", tmp_path / "step.png"
    ended = run(shards, BENCH / "train_step.py", "--parts", *parts, "--json", numbers, "--plot", picture)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = {part["part"]: part for part in json.loads(numbers.read_text())["parts"]}
    assert "".join(found) == parts
    for name, part in found.items():
        assert part["title"] in ended.stdout.replace("\n", " ")
        for variant in part["results"]:
            assert name == "d" or len(variant["regions"]) == len(variant["num_tokens"]) == 1
            assert name != "d" or variant["peak_bytes"] > variant["resident_bytes"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_engine_that_ends_elsewhere_than_the_others_is_reported_and_ends_in_1(shards):
    ended = run(shards, "-c", WITH_A_MISTAKE.format(mistake=NO_UPDATE), "--parts", "c")

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "DeepSpeed stage 1: last loss" in ended.stdout.replace("\n", " ")


@pytest.mark.skipif(find_spec("accelerate") is None, reason="Trainer needs accelerate")
def test_a_trainer_that_reads_other_sequences_is_reported_and_ends_in_1(shards):
    ended = run(shards, "-c", WITH_A_MISTAKE.format(mistake=OTHER_ORDER), "--parts", "b")

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "ours read other sequences than Trainer" in ended.stdout.replace("\n", " ")


@pytest.fixture
def found(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    from train_step_cases import Sizes
    from train_step_clock import REGIONS
    from train_step_measure import Found, Result

    def build(part, base, seconds, model="mini", **head):
        """Steps whose seconds are the engine's, but for the head's."""
        results = {}
        for name, steps in seconds.items():
            regions = dict.fromkeys(REGIONS, 0.0) | {"head and loss, forward": head.get(name, 0.0)}
            parts = [regions | {"engine and loop": whole - head.get(name, 0.0)} for whole in steps]
            results[name] = Result(name, parts, cpu_s=steps, num_tokens=[100] * len(steps))
        return Found(part, part, base, results, Sizes(model, 30_522, 128, 16, 16, "fp32", 4))

    return build


def test_targets_compare_medians_of_ratios_within_rounds(found):
    from train_step_report import judge

    objectives = {"average": [1.0, 2.0, 4.0], "minimax, batch": [1.0, 2.04, 9.0]}
    objectives |= {"minimax, ema": [1.1, 2.2, 4.0], "minimax, two_pass": [9.0, 9.0, 9.0]}
    speed = {"Trainer": [4.0, 8.0, 4.0], "ours": [2.0, 2.0, 2.1]}
    verdicts = judge([found("a", "average", objectives), found("b", "Trainer", speed)])
    assert [(item.what, item.ratio, item.met) for item in verdicts] == [
        ("time, minimax, batch ÷ average", 1.02, True),
        ("time, minimax, ema ÷ average", 1.1, False),
        ("tokens/s, ours ÷ Trainer", 2.0, True),
    ]


def test_at_the_shape_of_bert_base_the_target_is_what_our_head_would_give_trainer(found):
    from train_step_report import judge

    speed = {"Trainer": [10.0] * 3, "ours": [9.0] * 3}
    (verdict,) = judge([found("b", "Trainer", speed, "base", Trainer=3.0, ours=1.0)])
    assert (verdict.limit, verdict.ratio, verdict.met) == (10 / 8, 10 / 9, False)

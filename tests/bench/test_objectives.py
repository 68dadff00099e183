"""The benchmark of objectives, run as a user runs it, on a tiny model."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.objectives import OBJECTIVES

BENCH = Path(__file__).parents[2] / "bench"
TINY = shlex.split("--rounds 2 --model tiny --vocab-size 1100 --length 48 --batch 8 --micro 2")


@pytest.fixture(scope="module")
def ended(shards, tmp_path_factory):
    numbers = tmp_path_factory.mktemp("bench") / "objectives.json"
    command = [sys.executable, BENCH / "objectives.py", *TINY, "--shards", shards, "--json", numbers]
    process = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    process.costs = {cost["name"]: cost for cost in json.loads(numbers.read_text())["costs"]}
    return process


def ratio(ended, name):
    return ended.costs[name]["flops"] / ended.costs["average"]["flops"]


def test_there_is_a_row_of_every_objective(ended):
    assert {name.split(",")[0] for name in ended.costs} == OBJECTIVES.keys()
    for name, cost in ended.costs.items():
        assert name in ended.stdout
        assert len(cost["cpu_s"]) == len(cost["seconds"]) == 2


@pytest.mark.parametrize("estimator", ["batch", "ema"])
def test_minimax_in_one_pass_costs_what_the_average_costs(ended, estimator):
    assert 1 <= ratio(ended, f"minimax, {estimator}") <= 1.01


def test_exact_weights_cost_a_forward_pass_more_where_there_are_several_micro_batches(ended):
    assert ratio(ended, "minimax, two_pass") == pytest.approx(4 / 3, rel=0.01)
    cost = ended.costs["minimax, two_pass"]
    assert (cost["num_forward"], cost["num_backward"]) == (2 * 4, 4)


def test_gradnorm_needs_no_pass_for_the_gradients_of_the_tasks(ended):
    cost = ended.costs["gradnorm"]
    assert (cost["num_forward"], cost["num_backward"]) == (4, 4)
    assert 1 < ratio(ended, "gradnorm") <= 1.03


def test_a_minimax_that_costs_more_than_claimed_is_a_wrong_result(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    from objectives_measure import Cost, wrong

    def costs(*flops):
        names = ("average", "minimax, ema", "minimax, two_pass")
        return {name: Cost(name, n, 4, 4, None, 7.0) for name, n in zip(names, flops, strict=True)}

    assert wrong(costs(300, 303, 400), accumulates=True) == []
    assert wrong(costs(300, 600, 400), accumulates=True) == [
        "minimax, ema: 2.0000 times the FLOPs of average, not 1 to 1.01"
    ]
    assert len(wrong(costs(300, 300, 400), accumulates=False)) == 1

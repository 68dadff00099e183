"""The benchmark of estimators, run as a user runs it, on a tiny model."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
TINY = shlex.split("--steps 3 --seeds 2 --batch 8 --micro-batches 1 4 --vocab-size 1100 --length 48")
ESTIMATORS = ("two_pass", "batch", "ema")

FOLLOWED = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(BENCH)!r})
import estimators_measure
from estimators_measure import bench_config, fresh_model, in_micro_batches, measure
from train_step_cases import Sizes
from pipeline.assembly import text_data
from pipeline.engine.launch import join_ranks
from pipeline.engine.job import Job
from pipeline.engine.training import TrainingRun

estimators_measure.LEARNING_RATE = 1e-30
shards, place, sizes = Path(sys.argv[1]), join_ranks(), Sizes("tiny", 1100, 48, 8, 8, "fp32", 3)
shadows = measure(sizes, shards, 1.0, 0, [1, 4], place).weights
found = {{"shadows": {{name: weights.tolist() for name, weights in shadows.items()}}}}
for estimator in {ESTIMATORS}:
    config = in_micro_batches(bench_config(sizes, shards, 1.0, 0), 4)
    objective = config.objective.model_copy(update={{"estimator": estimator}})
    config = config.model_copy(update={{"objective": objective}})
    settings = {{"zero_optimization": {{"stage": 0}}}}
    run = TrainingRun(Job(config, settings, text_data(config), fresh_model(config), {{}}, place))
    found[estimator] = [run.runner.run(step).coefficients.tolist() for step in range(3)]
print(json.dumps(found))
"""


def run(*command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)


def test_without_alpha_all_agree_and_one_micro_batch_is_exact(shards, tmp_path):
    numbers = tmp_path / "estimators.json"
    command = [*TINY, "--alphas", "0", "2", "--shards", shards, "--json", numbers]
    ended = run(BENCH / "estimators.py", *command)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    alike, weighed = json.loads(numbers.read_text())["alphas"]
    for estimator, figures in alike["estimators"].items():
        assert max(figures["distances"]) < 1e-12
        assert estimator in ended.stdout
    exact = weighed["estimators"].pop("batch, micro-batches: 1")
    assert max(exact["distances"]) < 1e-12
    for figures in weighed["estimators"].values():
        assert len(figures["distances"]) == 3 * 2
        assert max(figures["distances"]) > 1e-3


def test_the_weights_are_those_of_runs_that_follow_them_while_the_parameters_stand_still(shards):
    ended = run("-c", FOLLOWED, shards)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    shadows = dict(zip(ESTIMATORS, ("exact", "batch, micro-batches: 4", "ema"), strict=True))
    for estimator, shadow in shadows.items():
        for followed, own in zip(found[estimator], found["shadows"][shadow], strict=True):
            assert own == pytest.approx(followed, abs=1e-5)
    assert found["batch"][2] != pytest.approx(found["ema"][2], abs=1e-3)


def test_micro_batches_that_do_not_divide_each_other_are_refused():
    ended = run(BENCH / "estimators.py", "--micro-batches", "4", "6")

    assert ended.returncode == 2
    assert "4 does not divide 6" in ended.stderr


def test_distance_and_bias_are_those_of_the_weights(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    import torch
    from estimators_measure import EXACT, RunWeights
    from estimators_report import compare

    exact, other = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.7, 0.3], [0.9, 0.1]])
    counts = torch.tensor([[1, 5], [3, 5]])
    runs = [RunWeights(1.0, seed, {EXACT: exact, "other": other}, counts) for seed in range(2)]
    found = compare(runs, ("rare", "frequent"))
    (figures,) = found.figures

    assert figures.distances.tolist() == pytest.approx([0.2, 0.0, 0.2, 0.0])
    assert figures.biases.tolist() == [pytest.approx([0.1, -0.1])] * 2
    assert figures.rank_correlation == pytest.approx(-1.0)
    assert (found.counts.tolist(), found.tasks[found.worst]) == ([2.0, 5.0], "rare")

"""`pipeline plan` on a terminal of 80 columns, as JSON, and where it is given nonsense."""

import json
import os
import subprocess
import sys

import pytest

from .conftest import CONFIGS


def run_plan(*arguments, name="tiny"):
    command = [sys.executable, "-m", "pipeline", "plan", str(CONFIGS / f"{name}.yaml"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


def test_it_prints_all_sections_and_writes_the_same_figures(shards, tmp_path):
    out = tmp_path / "made" / "plan.json"
    done = run_plan(
        *(f"data.path={shards}", "--world-size", 2, "--throughput", 1000, "--gpu-memory", 1),
        *("--bandwidth", 50, "--latency", 20, "--json", out),
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    titles = ("Model", "Batch", "Data", "Memory", "Sent", "Checkpoint")
    places = [done.stdout.index(f"\n{title}") for title in titles]
    assert places == sorted(places)
    figures = json.loads(out.read_text())
    assert f"Scarcest: {figures['scarcest_task']}" in done.stdout
    assert f"{figures['model']['num_all']:,}" in done.stdout
    assert len(figures["memory"]) == 4
    # 2 ranks: a hop for each message, and one back where all reduce; half of a gathered buffer is sent.
    stage_1 = figures["communication"][1]
    num_messages = {kind["what"]: kind["num_messages"] for kind in stage_1["traffic"]}
    hops = 2 * sum(num_messages.values()) - num_messages["parameters"]
    assert stage_1["communication_s"] == pytest.approx(stage_1["sent_bytes"] / 50e9 + hops * 20e-6)
    assert stage_1["sent_bytes"] == pytest.approx(3 / 2 * 4 * figures["model"]["num_all"], rel=0.001)
    assert figures["run_s"] == pytest.approx(20 * figures["step_s"])
    assert "Smallest stage that fits 90% of 1 GiB: 0" in done.stdout  # the buckets of the others take 1.9


@pytest.mark.parametrize("name", ["bert-1.3b", "modernbert-large"])
def test_a_shipped_run_file_is_planned_before_there_are_shards(name):
    done = run_plan("data.path=none", "model.num_layers=2", "--world-size", 64, name=name)
    assert done.returncode == 0, done.stderr
    assert "none in none yet" in done.stdout


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["data.path=none", "--mfu", "0.4"], "--peak-tflops"),
        (["data.path=none", "--world-size", "0"], "--world-size"),
        (["data.path=none", "--device", "tpu"], "--device"),
        (["data.path=none", "model.hidden_size=7"], "model.hidden_size"),
        (["data.path=none", "batch.globl_size=7"], "batch.global_size"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said):
    done = run_plan(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout

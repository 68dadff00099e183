"""A run that is told to stop saves the step it is at, on all ranks the same, and goes on from there later."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engine.stop import STOPPED

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"


def start(folder, shards, *overrides, world_size=1, port=29_400, **environment):
    """One process per rank, as srun starts them: each can be told by itself."""
    keys = ["data.num_workers=0", "model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4"]
    keys += ["validate.every=0", "checkpoint.every=0", f"data.path={shards}", f"out_dir={folder}"]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline", "pretrain", str(TINY), *keys, *overrides],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **common,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                **environment,
            },
        )
        for rank in range(world_size)
    ]


def lines(folder):
    path = folder / "tiny" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for_steps(folder, num_steps, processes):
    deadline = time.monotonic() + 120
    while len(lines(folder)) < num_steps:
        assert time.monotonic() < deadline, "no step was taken"
        assert all(process.poll() is None for process in processes), processes[0].communicate()[1]
        time.sleep(0.05)


def end(processes):
    """Exit codes, and what rank 0 said."""
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [process.returncode for process in processes], said[0]


@pytest.mark.parametrize(("told", "number"), [(0, signal.SIGTERM), (1, signal.SIGUSR2)])
def test_one_rank_that_is_told_stops_all_after_the_same_step(shards, tmp_path, told, number):
    processes = start(tmp_path, shards, "steps=100000", world_size=2, port=29_410 + told)
    wait_for_steps(tmp_path, 3, processes)
    processes[told].send_signal(number)
    codes, said = end(processes)
    assert codes == [STOPPED, STOPPED], said
    (checkpoint,) = (tmp_path / "tiny" / "checkpoints").iterdir()
    step = json.loads((checkpoint / "manifest.json").read_text())["step"]
    assert lines(tmp_path)[-1]["step"] == step
    assert f"saved step {step} of 100000; the same command goes on from there" in said
    assert ("told to stop (SIGTERM)" if told == 0 else "told to stop (another rank was)") in said


def test_a_run_that_was_told_to_stop_goes_on_without_holes(shards, tmp_path):
    constant = ("schedule.name=constant",)
    processes = start(tmp_path, shards, "steps=100000", *constant)
    wait_for_steps(tmp_path, 2, processes)
    processes[0].send_signal(signal.SIGTERM)
    assert end(processes)[0] == [STOPPED]
    taken = lines(tmp_path)[-1]["step"]
    codes, said = end(start(tmp_path, shards, f"steps={taken + 2}", *constant))
    assert codes == [0], said
    assert f"going on after step {taken}" in said
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, taken + 3))


def test_a_job_saves_before_its_time_is_up(shards, tmp_path):
    end_of_job = str(int(time.time()) + 30)  # less than the 60 s that saving may take
    codes, said = end(
        start(tmp_path, shards, "steps=100000", "checkpoint.save_before_s=60", SLURM_JOB_END_TIME=end_of_job)
    )
    assert codes == [STOPPED], said
    assert "told to stop (the end of the job's time)" in said
    assert lines(tmp_path)[-1]["step"] == 2


def test_a_run_ends_as_it_should_where_it_is_told_in_its_last_step(shards, tmp_path):
    end_of_job = str(int(time.time()))
    codes, said = end(start(tmp_path, shards, "steps=2", SLURM_JOB_END_TIME=end_of_job))
    assert codes == [0], said
    assert "done" in said

"""A run that is told to stop saves the step it is at, on all ranks the same, and goes on from there later."""

import json
import signal
import time

import pytest

from pipeline.engine.stop import STOPPED

ENDLESS = ("steps=100000", "checkpoint.every=0", "schedule.name=constant")


@pytest.mark.parametrize(("told", "number"), [(0, signal.SIGTERM), (1, signal.SIGUSR2)])
def test_one_rank_that_is_told_stops_all_after_the_same_step(pretrain_ranks, told, number):
    run = pretrain_ranks(*ENDLESS, world_size=2)
    run.wait_for_steps(3)
    run.processes[told].send_signal(number)
    codes, (said, _) = run.end()
    assert codes == [STOPPED, STOPPED], said
    (checkpoint,) = (run.folder / "checkpoints").iterdir()
    step = json.loads((checkpoint / "manifest.json").read_text())["step"]
    assert run.records[-1]["step"] == step
    assert f"saved step {step} of 100000; the same command goes on from there" in said
    assert ("told to stop (SIGTERM)" if told == 0 else "told to stop (another rank was)") in said


def test_a_run_that_was_told_to_stop_goes_on_without_holes(pretrain_ranks):
    run = pretrain_ranks(*ENDLESS)
    run.wait_for_steps(2)
    run.processes[0].send_signal(signal.SIGTERM)
    assert run.end()[0] == [STOPPED]
    taken = run.records[-1]["step"]
    codes, (said,) = pretrain_ranks(*ENDLESS, f"steps={taken + 2}").end()
    assert codes == [0], said
    assert f"going on after step {taken}" in said
    assert [line["step"] for line in run.records] == list(range(1, taken + 3))


def test_a_job_saves_before_its_time_is_up(pretrain_ranks):
    end_of_job = str(int(time.time()) + 45)  # less than the 90 s that saving may take
    run = pretrain_ranks(*ENDLESS, "checkpoint.save_before_s=90", SLURM_JOB_END_TIME=end_of_job)
    codes, (said,) = run.end()
    assert codes == [STOPPED], said
    assert "told to stop (the end of the job's time)" in said
    assert time.time() < int(end_of_job)
    assert run.records[-1]["step"] > 1, "half of its time is for training"


def test_a_run_ends_as_it_should_where_it_is_told_in_its_last_step(pretrain_ranks):
    last = ("steps=1", "schedule.warmup_steps=0")
    codes, (said,) = pretrain_ranks(*last, SLURM_JOB_END_TIME=str(int(time.time()))).end()
    assert codes == [0], said
    assert "done" in said

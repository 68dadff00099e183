"""Checkpoints are written while training goes on; which are kept; what a full disk costs."""

import json
import resource
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline.engine.records import Records
from pipeline.engine.stop import STOPPED

HERE = Path(__file__).parent
ZERO3 = HERE.parents[2] / "ds_configs" / "zero3.json"
SMALL = 100_000
"""Bytes: more than any log here, less than any checkpoint."""


def checkpoints(run):
    folder = run.folder / "checkpoints"
    return [int(path.name.removeprefix("step-")) for path in sorted(folder.glob("step-*"))]


def limit_files(run, largest):
    """From now on no rank can write a file beyond `largest` bytes, as on a disk that has no more room."""
    for process in run.processes:
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest, most))


def wait_until(condition, run):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in run.processes), run.end()
        time.sleep(0.02)


@pytest.fixture(params=["true", "false"], ids=["asynchronous", "waiting"])
def asynchronous(request):
    return f"checkpoint.asynchronous={request.param}"


def test_a_checkpoint_holds_the_state_after_its_step_however_far_training_is_when_it_is_written(
    pretrain_ranks,
):
    settings = (
        "steps=6",
        "checkpoint.every=2",
        "checkpoint.keep_last=9",
        "precision=bf16",
        f"deepspeed={ZERO3}",
    )
    late = pretrain_ranks(*settings, name="late", world_size=2, program=(HERE / "slow_saver.py",))
    codes, said = late.end()
    assert codes == [0, 0], said
    prompt = pretrain_ranks(*settings, "checkpoint.asynchronous=false", name="prompt", world_size=2)
    codes, said = prompt.end()
    assert codes == [0, 0], said
    for step in (2, 4, 6):
        folders = [run.folder / "checkpoints" / f"step-{step:08d}" for run in (late, prompt)]
        files = [path.relative_to(folders[0]) for path in folders[0].rglob("*.safetensors")]
        assert len(files) == 3
        for file in files:
            there, here = (load_file(folder / file) for folder in folders)
            assert all((there[name] == here[name]).all() for name in there)


def test_who_may_read_the_run_may_read_its_checkpoints(pretrain_ranks):
    run = pretrain_ranks("steps=2", "checkpoint.every=0")
    assert run.end()[0] == [0]
    allowed = (run.folder / "metrics.jsonl").stat().st_mode
    files = [path for path in (run.folder / "checkpoints").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {path.stat().st_mode for path in files} == {allowed}


def test_the_newest_are_kept_and_those_at_multiples(pretrain_ranks):
    run = pretrain_ranks("steps=9", "checkpoint.every=1", "checkpoint.keep_last=2", "checkpoint.keep_every=3")
    assert run.end()[0] == [0]
    assert checkpoints(run) == [3, 6, 8, 9]
    assert not list((run.folder / "checkpoints").glob(".*"))


def test_a_full_disk_stops_nothing_but_the_save(pretrain_ranks, asynchronous):
    run = pretrain_ranks("steps=100000", "checkpoint.every=4", asynchronous, world_size=2)
    wait_until(lambda: len(checkpoints(run)) == 2, run)
    limit_files(run, SMALL)
    at, kept = len(run.records), checkpoints(run)
    wait_until(lambda: len(run.records) > at + 12, run)
    stuck = checkpoints(run)
    assert set(stuck) & set(kept), "an older checkpoint went"
    assert stuck[-1] <= at + 4
    limit_files(run, resource.RLIM_INFINITY)
    wait_until(lambda: checkpoints(run)[-1] > stuck[-1], run)
    run.processes[0].send_signal(signal.SIGTERM)
    codes, (said, _) = run.end()
    assert codes == [STOPPED, STOPPED]
    assert "was not saved: rank" in said
    assert "older checkpoints are kept" in said
    steps = [record["step"] for record in run.records]
    assert steps == list(range(1, len(steps) + 1))


def test_a_run_whose_last_step_cannot_be_saved_says_so_and_fails(pretrain_ranks, asynchronous):
    run = pretrain_ranks("steps=40", "checkpoint.every=10", asynchronous)
    wait_until(lambda: checkpoints(run) == [10], run)
    limit_files(run, SMALL)
    codes, (said,) = run.end()
    assert codes == [1]
    assert "error: step 40 was not saved: rank 0" in said
    assert said.strip().endswith("the same command goes on from the newest checkpoint")
    again = pretrain_ranks("steps=40", "checkpoint.every=10", asynchronous)
    assert again.end()[0] == [0]
    assert checkpoints(again)[-1] == 40


def test_a_line_that_finds_no_room_waits_for_it(tmp_path):
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, before[1]))
    try:
        for step in (2, 3):
            with pytest.raises(OSError, match=r"metrics.jsonl|too large"):
                records.append({"step": step})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'
    records.append({"step": 4})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]

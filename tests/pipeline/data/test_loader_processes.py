"""However a run ends, none of its processes stays, and one line says why."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.engine.stop import STOPPED

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
POISON = Path(__file__).parents[1] / "engine" / "poison_step.py"
QUICK = ["model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4", "validate.every=0"]


class Run:
    """`pipeline pretrain` under way, in a process group of its own."""

    def __init__(self, folder, shards, *overrides, ranks=1, program=("-m", "pipeline")):
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        keys = [f"data.path={shards}", f"out_dir={folder}", *QUICK, "checkpoint.every=0", *overrides]
        self.metrics = folder / "tiny" / "metrics.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, *(launcher if ranks > 1 else []), *program, "pretrain", TINY, *keys],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def steps(self):
        lines = self.metrics.read_text().splitlines(keepends=True) if self.metrics.is_file() else []
        return sum(line.endswith("\n") for line in lines)

    def in_step(self, number):
        """Wait until so many steps are done."""
        wait_until(lambda: self.steps() >= number or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.process.stderr.read()
        return self

    def descendants(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self):
        """The children of the server that forks them."""
        server = self.server()
        return server.children()

    def server(self):
        (server,) = (child for child in self.descendants() if is_server(child) and child.children())
        return server

    def ending(self):
        """(exit code, stderr without the lines of steps)."""
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, [line for line in errors.splitlines() if ": step " not in line]


def is_server(process):
    return "multiprocessing.forkserver" in " ".join(process.cmdline())


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def all_gone(processes, seconds=15):
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def start(tmp_path, shards):
    runs = []

    def begin(*overrides, **options):
        runs.append(Run(tmp_path, shards, *overrides, **options))
        return runs[-1]

    yield begin
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
        run.process.stderr.close()


LONG = ["steps=100000", "data.num_workers=2"]


def test_after_a_finished_run_nothing_is_left(start):
    run = start("steps=40", "data.num_workers=2").in_step(1)
    family = run.descendants()
    assert len(run.workers()) == 2
    code, errors = run.ending()
    assert code == 0, errors
    assert all_gone(family)


def test_after_a_failed_run_nothing_is_left(start):
    run = start(*LONG, program=(POISON, "loss", "150", "0")).in_step(2)
    family = run.descendants()
    code, errors = run.ending()
    assert code == 2
    assert not any("Traceback" in line for line in errors)
    assert all_gone(family)


def test_a_killed_worker_ends_the_run_with_one_line(start):
    run = start(*LONG).in_step(2)
    family = run.descendants()
    run.workers()[0].kill()
    code, errors = run.ending()
    assert code == 2
    (line,) = (line for line in errors if "error" in line)
    assert line.startswith("pipeline: error: data loader: a worker process died with signal 9; run the same")
    assert not any("Traceback" in line for line in errors)
    assert all_gone(family)


def test_a_killed_worker_of_any_rank_is_told(start):
    run = start(*LONG, ranks=2).in_step(2)
    family = run.descendants()
    server, *_ = (child for child in family if is_server(child) and child.environ().get("RANK") == "1")
    server.children()[0].kill()
    code, errors = run.ending()
    assert code != 0
    told = "pipeline: error: rank 1: data loader: a worker process died with signal 9"
    assert any(line.startswith(told) for line in errors)
    assert all_gone(family)


def test_so_does_a_killed_server_of_workers(start):
    run = start(*LONG).in_step(2)
    family = run.descendants()
    run.server().kill()
    code, errors = run.ending()
    assert code == 2
    assert "data loader: a worker process died" in errors[-1]
    assert all_gone(family)


def test_a_killed_run_takes_its_workers_with_it(start):
    run = start(*LONG).in_step(2)
    family = run.descendants()
    assert len(family) >= 4  # server, tracker, workers
    run.process.kill()
    assert all_gone(family)


def test_ctrl_c_ends_all_processes_without_a_traceback(start):
    run = start(*LONG).in_step(2)
    family = run.descendants()
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does
    code, errors = run.ending()
    assert code == 130
    assert "told to stop (SIGINT); saved step" in errors[-1]
    assert not any("Traceback" in line for line in errors)
    assert all_gone(family)


def test_a_job_that_is_told_to_stop_leaves_nothing(start):
    run = start(*LONG).in_step(2)
    family = run.descendants()
    os.killpg(run.process.pid, signal.SIGTERM)
    code, _ = run.ending()
    assert code == STOPPED
    assert all_gone(family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_what_only_the_run_answers_passes_by_its_other_processes(start, number):
    run = start(*LONG).in_step(2)
    trackers = [each for each in run.descendants() if "resource_tracker" in " ".join(each.cmdline())]
    assert trackers
    for process in [run.server(), *run.workers(), *trackers]:
        process.send_signal(number)
    before = run.steps()
    run.in_step(before + 20)
    assert len(run.workers()) == 2
    assert all(each.is_running() for each in trackers)


def test_the_wait_for_data_is_recorded(start):
    run = start("steps=6", "log.every=3", "data.num_workers=1")
    code, errors = run.ending()
    assert code == 0, errors
    for line in map(json.loads, run.metrics.read_text().splitlines()):
        assert 0 < line["data_wait_s"] < line["step_time_s"]
    board = EventAccumulator(str(run.metrics.parent / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("speed/data_wait_s")] == [3, 6]

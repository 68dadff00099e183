"""Ranks started as srun starts them, one process each, so that a test can deal with every one by itself."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
QUICK = ["data.num_workers=0", "model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4"]


def places(world_size):
    """The environments of ranks that meet at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)},
            **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        }
        for rank in range(world_size)
    ]


def start_fresh(*arguments, cwd, environment):
    """Starts a Python that has imported nothing yet."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


class Ranks:
    """The processes of one `pipeline pretrain`, by rank.

    `start` starts a program; `own` is what a rank has for itself: by rank a map of `overrides`, `environment`
    and `cwd`.
    """

    def __init__(self, start, folder, arguments, world_size, program, environment, own):
        self.folder = folder
        self.processes = []
        for rank, place in enumerate(places(world_size)):
            mine = own.get(rank, {})
            self.processes.append(
                start(
                    *(*program, "pretrain", TINY, *arguments, *mine.get("overrides", ())),
                    cwd=mine.get("cwd"),
                    environment={**place, **environment, **mine.get("environment", {})},
                )
            )

    @property
    def records(self):
        path = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

    def wait_for_steps(self, num_steps):
        deadline = time.monotonic() + 120
        while len(self.records) < num_steps:
            assert time.monotonic() < deadline, "no step was taken"
            assert all(process.poll() is None for process in self.processes), self.end()
            time.sleep(0.05)

    def end(self, seconds=120):
        """Exit codes, and what each rank said."""
        said = [process.communicate(timeout=seconds)[1] for process in self.processes]
        return [process.returncode for process in self.processes], said


@pytest.fixture
def pretrain_ranks(shards, tmp_path, ready_python):
    """Starts `pipeline pretrain configs/tiny.yaml`, made smaller, below tmp_path.

    `fresh` ranks import all by themselves, from where their own environment or working folder says.
    """
    started = []

    def start(
        *overrides,
        name="tiny",
        world_size=1,
        program=("-m", "pipeline"),
        own=None,
        fresh=False,
        **environment,
    ):
        keys = [*QUICK, "validate.every=0", f"data.path={shards}", f"out_dir={tmp_path}", f"name={name}"]
        arguments = [*keys, *overrides]
        start_rank = start_fresh if fresh else ready_python.start
        ranks = Ranks(start_rank, tmp_path / name, arguments, world_size, program, environment, own or {})
        started.append(ranks)
        return ranks

    yield start
    for ranks in started:
        for process in ranks.processes:
            process.kill()


@pytest.fixture(scope="session")
def run_worker(ready_python):
    """Runs a worker of this folder on so many ranks; the first one that fails ends the others."""

    def run(worker, *arguments, world_size):
        command = [Path(__file__).with_name(worker), *arguments]
        ranks = [ready_python.start(*command, environment=place) for place in places(world_size)]
        try:
            while None in (codes := [rank.poll() for rank in ranks]) and not any(codes):
                time.sleep(0.05)
        finally:
            for rank in ranks:
                rank.kill()
        assert not any(codes), [rank.communicate() for rank in ranks]

    return run


@pytest.fixture(scope="module")
def run_cases(shards, tmp_path_factory, run_worker):
    """Gives a worker cases on so many ranks, in one launch; what it found, by the name of the case."""

    def run(worker, cases, world_size):
        folder = tmp_path_factory.mktemp("cases")
        (folder / "cases.json").write_text(json.dumps(cases))
        run_worker(worker, folder / "cases.json", shards, folder / "results.json", world_size=world_size)
        return {result["name"]: result for result in json.loads((folder / "results.json").read_text())}

    return run

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


class Ranks:
    """The processes of one `pipeline pretrain`, by rank.

    `own` is what a rank has for itself: by rank a map of `overrides`, `environment` and `cwd`.
    """

    def __init__(self, folder, arguments, world_size, program, environment, own):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        self.processes = []
        for rank in range(world_size):
            mine = own.get(rank, {})
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
            self.processes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, *map(str, program), "pretrain", str(TINY)),
                        *(*arguments, *mine.get("overrides", ())),
                    ],
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=mine.get("cwd"),
                    env={**common, **place, **environment, **mine.get("environment", {})},
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
def pretrain_ranks(shards, tmp_path):
    """Starts `pipeline pretrain configs/tiny.yaml`, made smaller, below tmp_path."""
    started = []

    def start(*overrides, name="tiny", world_size=1, program=("-m", "pipeline"), own=None, **environment):
        keys = [*QUICK, "validate.every=0", f"data.path={shards}", f"out_dir={tmp_path}", f"name={name}"]
        arguments = [*keys, *overrides]
        started.append(Ranks(tmp_path / name, arguments, world_size, program, environment, own or {}))
        return started[-1]

    yield start
    for ranks in started:
        for process in ranks.processes:
            process.kill()


@pytest.fixture(scope="module")
def run_cases(shards, tmp_path_factory):
    """Gives a worker cases on so many ranks, in one launch; what it found, by the name of the case."""

    def run(worker, cases, world_size):
        folder = tmp_path_factory.mktemp("cases")
        (folder / "cases.json").write_text(json.dumps(cases))
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
        files = [Path(__file__).with_name(worker), folder / "cases.json", shards, folder / "results.json"]
        finished = subprocess.run(
            [sys.executable, *launch, *files],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return {result["name"]: result for result in json.loads((folder / "results.json").read_text())}

    return run

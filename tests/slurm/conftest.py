"""A real cluster for each file of tests, where this machine can have one."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import run_program
from pipeline.__main__ import app

from .cluster import Cluster, missing_programs

PROJECT = Path(__file__).parents[2]


@dataclass
class Answer:
    """Exit code, what was printed, and the lines of mistakes and warnings."""

    code: int
    text: str
    errors: list[str]

    @property
    def facts(self) -> dict[str, str]:
        """Of a table of facts, by name."""
        rows = [(line[:13].strip(), line[13:].strip()) for line in self.text.split("\n\n")[0].splitlines()]
        facts: dict[str, str] = {}
        for name, fact in rows:
            last = name or next(reversed(facts))
            facts[last] = f"{facts[last]} {fact}" if last in facts else fact
        return facts


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes with two fake GPUs each."""
    if missing := missing_programs():
        pytest.skip(f"{', '.join(missing)} not installed; make slurm-test installs them on Debian, as root")
    if os.geteuid() != 0:
        pytest.skip("the cluster's daemons give each node a name of its own, which only root may")
    cluster = Cluster(Path(tmp_path_factory.mktemp("cluster")), num_nodes=3, gpus_per_node=2)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def submit_dir(cluster: Cluster, shards: Path, tmp_path: Path) -> Path:
    """A folder as a user submits from: the environment, the scripts, shards and a run file."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "slurm").symlink_to(PROJECT / "slurm")
    (tmp_path / "shards").symlink_to(shards)
    shutil.copy(PROJECT / "configs" / "tiny.yaml", tmp_path / "run.yaml")
    return tmp_path


@pytest.fixture
def pipeline(cluster: Cluster, submit_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Iterator[Any]:
    """`pipeline ARGUMENTS` in the folder to submit from, on a terminal of 80 columns; what it answers."""
    monkeypatch.chdir(submit_dir)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        terminated = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                run_program("pipeline", app)
        finally:
            signal.signal(signal.SIGTERM, terminated)
        said = capfd.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("pipeline: ")]
        return Answer(end.value.code, said.out, errors)

    yield run
    cluster.run("scancel", "--user=root")

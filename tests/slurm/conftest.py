"""A real cluster for each file of tests, where this machine can have one."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .cluster import Cluster, missing_programs
from .job import RANKS, RUN, STEPS, Job

PROJECT = Path(__file__).parents[2]
SMALL_SHARDS = ("--vocab-size=1000", "--sequence-length=48", "--block-size=20000")


@dataclass
class Answer:
    """Exit code, what was printed, and the lines of mistakes and warnings."""

    code: int
    text: str
    errors: list[str]

    @property
    def job(self) -> str:
        """The number of the job that was handed in."""
        assert self.code == 0, self.errors
        return re.search(r"^Job (\d+) is in the queue", self.text, re.MULTILINE)[1]  # type: ignore[index]

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
def pipeline(
    cluster: Cluster, submit_dir: Path, monkeypatch: pytest.MonkeyPatch, call_pipeline: Callable[..., Any]
) -> Iterator[Any]:
    """`pipeline ARGUMENTS` in the folder to submit from, on a terminal of 80 columns; what it answers."""
    monkeypatch.chdir(submit_dir)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Answer:
        return Answer(*call_pipeline(*arguments))

    yield run
    cluster.run("scancel", "--user=root")


@pytest.fixture
def train(cluster: Cluster, submit_dir: Path) -> Callable[..., Job]:
    """Hand in a run by the name `name` with sbatch."""

    def train(name: str, *overrides: str, options: tuple[str, ...] = RANKS) -> Job:
        command = ("sbatch", "--parsable", *options, "slurm/pretrain.sh", *RUN, f"name={name}", *overrides)
        return Job(cluster, cluster.ask(*command, cwd=submit_dir), submit_dir / "runs" / name)

    return train


@pytest.fixture
def same_end(train: Callable[..., Job]) -> Callable[..., None]:
    """Compare a job's run, record by record and bit by bit, with one that is left alone."""

    def same_end(job: Job, *overrides: str) -> None:
        undisturbed = train("undisturbed", *overrides)
        undisturbed.end()
        assert job.steps == list(range(1, STEPS + 1))
        assert [line["task_loss"] for line in job.lines] == [line["task_loss"] for line in undisturbed.lines]
        expected = undisturbed.parameters
        assert all((value == expected[name]).all() for name, value in job.parameters.items())

    return same_end


@pytest.fixture
def push_out(cluster: Cluster) -> Iterator[Callable[..., str]]:
    """Hand in a more important job on whole nodes, for which SLURM preempts others; its number."""

    def push_out(num_nodes: int, seconds: int) -> str:
        options = ("--partition=urgent", "--exclusive", f"--nodes={num_nodes}", "--time=10")
        sleep = ("--output=/dev/null", f"--wrap=sleep {seconds}")
        return cluster.ask("sbatch", "--parsable", "--job-name=urgent", *options, *sleep)

    yield push_out
    cluster.run("scancel", "--name=urgent")


@pytest.fixture
def prepare(cluster: Cluster, submit_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Submit a preparation of 12 texts to `new`, in 2 parts of a process each; what submit_array.sh says."""
    (submit_dir / "slurm").unlink()
    shutil.copytree(PROJECT / "slurm", submit_dir / "slurm")
    script = submit_dir / "slurm" / "data_prep.sh"
    edited = script.read_text().replace("num_parts=16", "num_parts=2").replace("task=8", "task=1")
    script.write_text(edited)
    (submit_dir / "texts").mkdir()
    for number in range(12):
        words = " ".join(f"The old dog number {number} ran quickly to house {line}." for line in range(200))
        (submit_dir / "texts" / f"{number}.txt").write_text(words)

    def prepare(*options: str) -> subprocess.CompletedProcess[str]:
        command = ("slurm/submit_array.sh", *options, "slurm/data_prep.sh", "new", "texts", *SMALL_SHARDS)
        return cluster.run(*command, cwd=submit_dir)

    return prepare

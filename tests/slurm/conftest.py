"""A real cluster for each file of tests, where this machine can have one."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster, missing_programs

PROJECT = Path(__file__).parents[2]


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

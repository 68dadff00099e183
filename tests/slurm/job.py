"""A run of slurm/pretrain.sh that tests watch, disturb, and compare with another."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from pipeline.engine.run_folder import checkpoint_folder
from pipeline.slurm.attempts import Attempt, AttemptLog

from .cluster import Cluster

STEPS = 150
RUN = (
    *("run.yaml", "data.path=shards", "data.num_workers=0", "batch.global_size=12", "batch.micro_size=4"),
    *(f"steps={STEPS}", "validate.every=0", "checkpoint.every=20", "log.every=1"),
)
CORES = ("--cpus-per-task=1", "--mincpus=1")
RANKS = ("--nodes=2", *CORES, "--time=10")


class Job:
    """A job, and the folder of its run."""

    def __init__(self, cluster: Cluster, number: str, run_dir: Path) -> None:
        self._cluster, self.number, self.run_dir = cluster, number, run_dir

    @property
    def log(self) -> str:
        """What all its attempts said."""
        path = self.run_dir / "slurm" / "log"
        return path.read_text() if path.exists() else ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Of metrics.jsonl."""
        path = self.run_dir / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def steps(self) -> list[int]:
        """Those in metrics.jsonl."""
        return [line["step"] for line in self.lines]

    @property
    def attempts(self) -> list[Attempt]:
        """Its starts, as it wrote them down."""
        return AttemptLog(self.run_dir).attempts

    @property
    def nodes(self) -> list[str]:
        """Where it runs, or ran last."""
        return self._cluster.hostnames(self._cluster.job(self.number)["NodeList"])

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Of the last step's checkpoint."""
        return load_file(checkpoint_folder(self.run_dir, STEPS) / "model.safetensors")

    def wait_for_step(self, step: int, timeout_s: float = 120) -> None:
        """Wait until a step is in metrics.jsonl."""
        self._wait(lambda: max(self.steps, default=0) >= step, timeout_s)

    def wait_for_attempt(self, number: int, timeout_s: float = 120) -> None:
        """Wait until SLURM starts the job for the `number`th time."""
        self._wait(lambda: len(self.attempts) >= number, timeout_s)

    def end(self, state: str = "COMPLETED", timeout_s: float = 240) -> dict[str, str]:
        """Wait until it ends as it should; what SLURM knows of it."""
        try:
            return self._cluster.wait_for_job(self.number, state, timeout_s=timeout_s)
        except TimeoutError as error:
            raise AssertionError(self.log) from error

    def _wait(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < end, self.log + self._cluster.job_text()
            time.sleep(0.1)

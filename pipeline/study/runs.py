"""The runs of a study: what each is called, where it lies, what it goes on from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.config import RunConfig
from pipeline.engine.run_folder import MANIFEST, checkpoint_folder
from pipeline.study.declaration import StudyConfig

Compute = Literal["equal steps", "equal compute"]
FOLDERS: dict[Compute, str] = {"equal steps": "runs", "equal compute": "runs_at_equal_compute"}
"""Below the study's folder, of the arms' runs."""


@dataclass(frozen=True)
class Run:
    """A run of the ordinary program. Its folder is `config.run_dir`; the files beside it are the study's."""

    config: RunConfig

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.config.run_dir

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.folder.parent.name} {self.config.name}"

    @property
    def run_file(self) -> Path:
        """What it is started with."""
        return self._beside("yaml")

    @property
    def log(self) -> Path:
        """What it says."""
        return self._beside("log")

    @property
    def identity(self) -> Path:
        """What it is made of, written down before it starts."""
        return self._beside("json")

    @property
    def checkpoint(self) -> Path:
        """That of its last step."""
        return checkpoint_folder(self.folder, self.config.steps)

    @property
    def is_trained(self) -> bool:
        """Whether it took its last step."""
        return (self.checkpoint / MANIFEST).is_file()

    def _beside(self, suffix: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{suffix}")


@dataclass(frozen=True)
class Trunk(Run):
    """The first steps that arms of a seed have in common."""


@dataclass(frozen=True)
class ArmRun(Run):
    """An arm with a seed. `method` is the arm's group, or the arm itself where it has none."""

    arm: str
    method: str
    compute: Compute
    trunk: Trunk | None

    @property
    def seed(self) -> int:
        """Which pairs it with the runs of other arms."""
        return self.config.seed

    @property
    def num_trunk_steps(self) -> int:
        """Steps that it did not take itself."""
        return self.trunk.config.steps if self.trunk else 0


@dataclass(frozen=True)
class Study:
    """A study file, the runs that it means, and the shards that all of them are scored on.

    `costlier` are arms whose steps cost more or less than those of the first baseline, and that are not run
    at equal compute: the table of that leaves them out.
    """

    config: StudyConfig
    folder: Path
    data: Path
    runs: list[ArmRun]
    costlier: frozenset[str] = field(default=frozenset())

    @property
    def trunks(self) -> list[Trunk]:
        """Those that runs go on from, each once."""
        return list({run.trunk.folder: run.trunk for run in self.runs if run.trunk}.values())

    @property
    def num_steps(self) -> int:
        """Of each arm."""
        return self.runs[0].config.steps

    def of(self, compute: Compute) -> list[ArmRun]:
        """The runs of a table, arm by arm.

        At equal compute these are, beside the runs made for it, those that cost as much with all steps.
        """
        made = [run for run in self.runs if run.compute == compute]
        if compute == "equal steps" or not made:
            return made
        absent = {run.arm for run in made} | self.costlier
        alike = [run for run in self.runs if run.arm not in absent]
        order = list(self.config.arms)
        return sorted([*made, *alike], key=lambda run: order.index(run.arm))

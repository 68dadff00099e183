"""A study of two arms and two seeds on the tests' shards, and `pipeline study` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"


class StudyFolder:
    """A folder with a study file, below which `pipeline study` runs."""

    def __init__(self, folder, shards):
        self.folder = folder
        self.source = folder / "study.yaml"
        self.content = {
            "name": "two-arms",
            "run_file": str(TINY),
            "overrides": {
                "steps": 6,
                "data.path": str(shards),
                "data.num_workers": 0,
                "model.hidden_size": 32,
                "batch.global_size": 12,
                "batch.micro_size": 4,
                "objective.nsp": "off",
                "optimizer.lr": 0.01,
                "validate.every": 2,
                "validate.num_samples": 20,
                "checkpoint.every": 1,
                "log.every": 1,
            },
            "seeds": [0, 1],
            "baselines": ["average"],
            "trunks": {"warm": {"steps": 3, "overrides": {"objective.name": "average"}}},
            "arms": {
                "average": {"overrides": {"objective.name": "average"}},
                "minimax": {"trunk": "warm", "overrides": {"objective.name": "minimax"}},
            },
            "evaluation": {"num_samples": 60, "num_masks": 3},
        }
        self.write()

    def write(self):
        self.source.write_text(yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True))

    def start(self, *options, out="out", **environment):
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "study", self.source, "--out", self.folder / out, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
        )

    def run(self, *options, out="out", **environment):
        """Exit code and what was said."""
        process = self.start(*options, out=out, **environment)
        said = "".join(process.communicate(timeout=600))
        return process.returncode, said


@pytest.fixture(scope="session")
def complete(shards, tmp_path_factory):
    """A study that is done; not to be altered."""
    study = StudyFolder(tmp_path_factory.mktemp("study"), shards)
    code, said = study.run("--jobs", "2")
    assert code == 0, said
    return study


@pytest.fixture
def study(shards, tmp_path):
    """A study that has not begun."""
    return StudyFolder(tmp_path, shards)

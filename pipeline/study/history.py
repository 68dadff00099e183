"""What the runs of an arm wrote while training, from step 0 on, their trunk's part included."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.study.runs import ArmRun
from pipeline.study.statistics import Array


@dataclass(frozen=True)
class Curves:
    """A figure over steps [K], seed by seed: `values` [S, K, ...]. Only steps that all seeds have."""

    steps: Array
    values: Array

    @property
    def mean(self) -> Array:
        """[K, ...] over seeds."""
        return self.values.mean(axis=0)

    @property
    def error(self) -> Array:
        """[K, ...] standard error over seeds; 0 of one seed."""
        num_seeds = len(self.values)
        return self.values.std(axis=0, ddof=1) / np.sqrt(num_seeds) if num_seeds > 1 else 0 * self.mean


def curves(runs: Sequence[ArmRun], name: str, read: Callable[[dict[str, Any]], Any]) -> Curves | None:
    """What `read` finds in the lines of the file `name` (None for nothing); None where there is nothing."""
    by_seed = [_values(run, name, read) for run in runs]
    steps = sorted(set.intersection(*(set(values) for values in by_seed)))
    if not steps:
        return None
    return Curves(np.array(steps), np.array([[values[step] for step in steps] for values in by_seed]))


def _values(run: ArmRun, name: str, read: Callable[[dict[str, Any]], Any]) -> dict[int, Any]:
    folders = [run.trunk.folder, run.folder] if run.trunk else [run.folder]
    lines = [line for folder in folders for line in _lines(folder / name)]
    values = {line["step"]: read(line) for line in lines}
    return {step: value for step, value in values.items() if value is not None}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []

"""Objectives, one file each. A new one is a file and a line in OBJECTIVES."""

from collections.abc import Callable

from pipeline.config import ObjectiveConfig
from pipeline.objectives.average import Average
from pipeline.objectives.interface import Objective, TaskStats
from pipeline.objectives.minimax import Minimax

OBJECTIVES: dict[str, Callable[[ObjectiveConfig], Objective]] = {
    "average": lambda config: Average(),
    "minimax": lambda config: Minimax(config.alpha),
}

__all__ = ["OBJECTIVES", "Objective", "TaskStats", "build_objective"]


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective that a run file names."""
    return OBJECTIVES[config.name](config)

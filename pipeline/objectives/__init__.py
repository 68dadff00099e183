"""Objectives, one file each. A new one is a file and a line in OBJECTIVES."""

from collections.abc import Callable, Sequence

from pipeline.config import ObjectiveConfig
from pipeline.objectives.alpha_schedule import AlphaSchedule, rising_alpha, theorem_alpha
from pipeline.objectives.average import Average
from pipeline.objectives.interface import Objective, TaskStats
from pipeline.objectives.minimax import Minimax
from pipeline.objectives.token_mean import TokenMean
from pipeline.objectives.warm_start import WarmStart

Builder = Callable[[ObjectiveConfig, Sequence[str], int], Objective]
"""From the section of a run file, the names of the T tasks, and the steps that the objective has."""

OBJECTIVES: dict[str, Builder] = {
    "token_mean": lambda config, tasks, steps: TokenMean(),
    "average": lambda config, tasks, steps: Average(),
    "minimax": lambda config, tasks, steps: Minimax(alpha_of(config, len(tasks), steps), config.prior_power),
}

__all__ = ["OBJECTIVES", "Objective", "TaskStats", "build_objective"]


def build_objective(config: ObjectiveConfig, task_names: Sequence[str], num_steps: int) -> Objective:
    """The objective that a run file names, for these tasks and so many steps of the run."""
    objective = OBJECTIVES[config.name](config, task_names, num_steps - config.start_step)
    if config.start_step == 0:
        return objective
    before = OBJECTIVES[config.start_name](config, task_names, config.start_step)
    return WarmStart(before, objective, config.start_step)


def alpha_of(config: ObjectiveConfig, num_tasks: int, num_steps: int) -> AlphaSchedule:
    """The α that a run file asks for."""
    if config.alpha_schedule != "theorem":
        return rising_alpha(config.alpha_schedule, config.alpha, num_steps)
    assert config.radius_lipschitz and config.loss_bound
    return theorem_alpha(config.radius_lipschitz, config.loss_bound, num_tasks)

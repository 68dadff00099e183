"""Objectives, one file each. A new one is a file and a line in OBJECTIVES."""

from collections.abc import Callable, Sequence

from pipeline.config import ObjectiveConfig
from pipeline.objectives.alpha_schedule import AlphaSchedule, rising_alpha, theorem_alpha
from pipeline.objectives.average import Average
from pipeline.objectives.dwa import Dwa
from pipeline.objectives.excess import Excess
from pipeline.objectives.famo import Famo
from pipeline.objectives.gradnorm import GradNorm
from pipeline.objectives.group_dro import GroupDro
from pipeline.objectives.initial_losses import InitialLosses
from pipeline.objectives.interface import GRADIENTS, Objective, TaskStats
from pipeline.objectives.minimax import Minimax
from pipeline.objectives.normalised import Normalised
from pipeline.objectives.static import Static
from pipeline.objectives.tchebycheff import Tchebycheff
from pipeline.objectives.token_mean import TokenMean
from pipeline.objectives.uncertainty import Uncertainty
from pipeline.objectives.warm_start import WarmStart

Tasks = Sequence[str]
Builder = Callable[[ObjectiveConfig, Tasks, int], Objective]
"""From the section of a run file, the names of the T tasks, and the steps that the objective has."""


def _alpha(config: ObjectiveConfig, num_tasks: int, num_steps: int) -> AlphaSchedule:
    if config.alpha_schedule != "theorem":
        return rising_alpha(config.alpha_schedule, config.alpha, num_steps)
    assert config.radius_lipschitz and config.loss_bound
    return theorem_alpha(config.radius_lipschitz, config.loss_bound, num_tasks)


def _minimax(config: ObjectiveConfig, tasks: Tasks, num_steps: int) -> Minimax:
    return Minimax(_alpha(config, len(tasks), num_steps), config.prior_power)


def _initial(config: ObjectiveConfig, tasks: Tasks) -> InitialLosses:
    return InitialLosses(len(tasks), config.window)


OBJECTIVES: dict[str, Builder] = {
    "average": lambda config, tasks, steps: Average(),
    "token_mean": lambda config, tasks, steps: TokenMean(),
    "static": lambda config, tasks, steps: Static(config.weights or {}, tasks),
    "minimax": _minimax,
    "excess": lambda config, tasks, steps: Excess(
        _minimax(config, tasks, steps), config.reference_losses or {}, tasks
    ),
    "group_dro": lambda config, tasks, steps: GroupDro(len(tasks), config.step_size, config.memory),
    "tchebycheff": lambda config, tasks, steps: Tchebycheff(_initial(config, tasks), config.mu),
    "uncertainty": lambda config, tasks, steps: Uncertainty(len(tasks), config.lr or 0.01),
    "dwa": lambda config, tasks, steps: Dwa(len(tasks), config.temperature, config.window),
    "famo": lambda config, tasks, steps: Famo(len(tasks), config.lr or 0.025),
    "gradnorm": lambda config, tasks, steps: GradNorm(
        len(tasks), _initial(config, tasks), config.asymmetry, config.lr or 0.025
    ),
}

__all__ = ["GRADIENTS", "OBJECTIVES", "Objective", "TaskStats", "build_objective"]


def build_objective(config: ObjectiveConfig, task_names: Tasks, num_steps: int) -> Objective:
    """The objective that a run file names, for these tasks and so many steps of the run.

    Raises:
        UserError: weights or references that do not fit the tasks.
    """
    objective = OBJECTIVES[config.name](config, task_names, num_steps - config.start_step)
    if config.normalise != "raw":
        initial = _initial(config, task_names) if config.normalise == "initial" else None
        objective = Normalised(objective, initial)
    if config.start_step == 0:
        return objective
    before = OBJECTIVES[config.start_name](config, task_names, config.start_step)
    return WarmStart(before, objective, config.start_step)

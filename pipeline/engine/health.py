"""Warnings about tasks: one that has nearly all the weight for long, one that has been absent for long."""

import torch
from torch import Tensor

from pipeline.config import LogConfig, ObjectiveConfig
from pipeline.data.interface import LossTerms
from pipeline.engine.step import StepResult

_SPREADS = {
    "average": "all present tasks have as much: raise log.collapse_weight",
    "token_mean": "it is its share of the labels: see data.quota",
    "static": "see objective.weights",
    "minimax": "a lower objective.alpha spreads it",
    "excess": "a lower objective.alpha spreads it",
    "group_dro": "a lower objective.step_size or objective.memory spreads it",
    "tchebycheff": "a higher objective.mu spreads it",
    "uncertainty": "a lower objective.lr slows it",
    "dwa": "a higher objective.temperature spreads it",
    "famo": "a lower objective.lr slows it",
    "gradnorm": "a lower objective.lr slows it, a lower objective.asymmetry spreads it",
}
"""By objective, what to do where one task has nearly all the weight."""


class TaskHealth:
    """Looks at every step on the device, without waiting for it; the host asks at the lines of metrics.

    Episodes are counted from the start of the process: a run that goes on counts anew.

    Args:
        terms: the loss terms, of which the tasks are watched.
        limits: from which share, and after how many steps, a warning is due.
        objective: what makes the weights, which advice depends on.
        device: where step results are.
    """

    def __init__(
        self, terms: LossTerms, limits: LogConfig, objective: ObjectiveConfig, device: torch.device
    ) -> None:
        self._names = terms.names
        self._limits = limits
        self._objective = objective
        self._is_task = terms.is_task.to(device)
        self._dominant = torch.zeros(len(terms), dtype=torch.long, device=device)
        self._absent = torch.zeros_like(self._dominant)
        self._num_steps = 0
        self._told: set[tuple[str, str, int]] = set()

    def step_done(self, result: StepResult) -> None:
        """Note who had the weight and who was absent. A step without an update says nothing."""
        if result.refusal is not None:
            return
        self._num_steps += 1
        present = self._is_task & (result.counts > 0)
        weights = torch.where(present, result.coefficients, 0.0)
        has_rivals = present.sum() > 1
        is_dominant = has_rivals & (weights > self._limits.collapse_weight * weights.sum())
        self._dominant = _longer_where(is_dominant, self._dominant)
        self._absent = _longer_where(self._is_task & ~present, self._absent)

    def warnings(self, num_steps: int) -> list[str]:
        """What is new since the last call, one line for episodes of a length. Waits for the device.

        Args:
            num_steps: that the run has taken.
        """
        limits = self._limits
        dominant, absent = torch.stack([self._dominant, self._absent]).tolist()
        return [
            *self._new_episodes(
                dominant,
                limits.collapse_steps,
                f"more than {limits.collapse_weight:g} of the weight",
                _what_spreads_weights(self._objective, num_steps),
            ),
            *self._new_episodes(
                absent, limits.absent_steps, "absent", "see data.quota, and whether there is text with it"
            ),
        ]

    def _new_episodes(self, lengths: list[int], shortest: int, what: str, advice: str) -> list[str]:
        by_length: dict[int, list[str]] = {}
        for name, length in zip(self._names, lengths, strict=True):
            episode = (name, what, self._num_steps - length)
            if shortest and length >= shortest and episode not in self._told:
                self._told.add(episode)
                by_length.setdefault(length, []).append(name)
        return [
            f"{', '.join(names)}: {what} for {length:,} steps; {advice}"
            for length, names in by_length.items()
        ]


def _what_spreads_weights(objective: ObjectiveConfig, num_steps: int) -> str:
    """Advice for who made the weights of the last of the steps taken."""
    if num_steps <= objective.start_step:
        return _SPREADS[objective.start_name]
    if objective.alpha_schedule == "theorem":  # which has its own α
        return "a higher objective.radius_lipschitz spreads it"
    return _SPREADS[objective.name]


def _longer_where(goes_on: Tensor, lengths: Tensor) -> Tensor:
    """Lengths [M] of episodes after one more step; one that does not go on has length 0."""
    return torch.where(goes_on, lengths + 1, 0)

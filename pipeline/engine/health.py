"""Warnings about tasks: one that has nearly all the weight for long, one that has been absent for long."""

import torch
from torch import Tensor

from pipeline.config import LogConfig
from pipeline.data.interface import LossTerms
from pipeline.engine.step import StepResult


class TaskHealth:
    """Looks at every step on the device, without waiting for it; the host asks at the lines of metrics.

    Episodes are counted from the start of the process: a run that goes on counts anew.

    Args:
        terms: the loss terms, of which the tasks are watched.
        limits: from which share, and after how many steps, a warning is due.
        device: where step results are.
    """

    def __init__(self, terms: LossTerms, limits: LogConfig, device: torch.device) -> None:
        self._names = terms.names
        self._limits = limits
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

    def warnings(self) -> list[str]:
        """What is new since the last call, one line for episodes of a length. Waits for the device."""
        limits = self._limits
        dominant, absent = torch.stack([self._dominant, self._absent]).tolist()
        return [
            *self._new_episodes(
                dominant,
                limits.collapse_steps,
                f"more than {limits.collapse_weight:g} of the weight",
                "a lower objective.alpha spreads it",
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


def _longer_where(goes_on: Tensor, lengths: Tensor) -> Tensor:
    """Lengths [M] of episodes after one more step; one that does not go on has length 0."""
    return torch.where(goes_on, lengths + 1, 0)

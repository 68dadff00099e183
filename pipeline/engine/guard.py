"""Whether a step's update is made: not where its loss or gradient is no number, nor after a spike."""

from enum import StrEnum
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_DECAY = 0.98
"""Per step, of the moving average that a spike is measured against: it looks back some 50 steps."""


class Refusal(StrEnum):
    """Why an update was not made."""

    LOSS = "the loss is not a finite number"
    GRADIENT = "the gradient is not a finite number"
    SPIKE = "the average loss is a spike"


class LossGuard:
    """Judges the global losses of a step before its update.

    Args:
        is_task: [M] bool, which loss terms are tasks.
        spike_factor: the average task loss is a spike where it exceeds its moving average so many times.
    """

    def __init__(self, is_task: Tensor, spike_factor: float | None) -> None:
        self._is_task = is_task
        self._spike_factor = spike_factor
        self._usual_loss: float | None = None
        self._loss: float | None = None
        self.num_skipped = 0
        self.num_skipped_in_a_row = 0

    def judge(self, sums: Tensor, counts: Tensor) -> Refusal | None:
        """Why the global sums and counts [M] speak against the update, if they do. Waits for the device."""
        present = self._is_task & (counts > 0)
        means = torch.where(present, sums / counts.clamp(min=1), 0.0)
        num_present = present.sum().to(means.dtype)
        is_finite = torch.isfinite(sums).all().to(means.dtype)
        finite, loss, some = torch.stack(
            [is_finite, means.sum() / num_present.clamp(min=1), num_present]
        ).tolist()
        self._loss = loss if some else None
        if not finite:
            return Refusal.LOSS
        usual = loss if self._usual_loss is None else self._usual_loss
        return Refusal.SPIKE if self._spike_factor and loss > self._spike_factor * usual else None

    def count(self, refusal: Refusal | None) -> None:
        """The step that was judged is over, with an update or without."""
        if refusal:
            self.num_skipped += 1
            self.num_skipped_in_a_row += 1
            return
        self.num_skipped_in_a_row = 0
        if self._loss is not None:
            usual = self._loss if self._usual_loss is None else self._usual_loss
            self._usual_loss = _DECAY * usual + (1 - _DECAY) * self._loss

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold to go on, as plain values."""
        return {
            "usual_loss": self._usual_loss,
            "num_skipped": self.num_skipped,
            "num_skipped_in_a_row": self.num_skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._usual_loss = state["usual_loss"]
        self.num_skipped = state["num_skipped"]
        self.num_skipped_in_a_row = state["num_skipped_in_a_row"]


class UpdateGate:
    """Beneath DeepSpeed's optimizer, which would update after any finite gradient: closed, nothing changes.

    All that DeepSpeed does around an update, it does all the same.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.is_open = True
        update = optimizer.step

        def step(_: Optimizer, *arguments: Any, **named: Any) -> Any:
            return update(*arguments, **named) if self.is_open else None

        # A method, since torch's schedules look into it.
        optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]

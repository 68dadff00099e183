"""How often a run sees the sequences of each task."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.order import TaskSchedule


@dataclass(frozen=True)
class TaskGroup:
    """The training sequences of a task; `quota` is its relative number of sequences in a step."""

    name: str
    num_sequences: int
    tokens_per_sequence: float
    quota: int


@dataclass(frozen=True)
class TaskUse:
    """What a run takes of a task group. `epochs` is how often each of its sequences comes up."""

    name: str
    num_sequences: int
    sequences_per_step: float
    tokens: float
    epochs: float


def task_uses(groups: Sequence[TaskGroup], global_size: int, num_steps: int) -> list[TaskUse]:
    """What `num_steps` steps take, by the schedule that training follows; nothing of an empty group."""
    schedule = TaskSchedule([group.quota for group in groups])
    taken = schedule.slots_before(global_size * num_steps)
    return [
        TaskUse(
            name=group.name,
            num_sequences=group.num_sequences,
            sequences_per_step=number / num_steps,
            tokens=number * group.tokens_per_sequence,
            epochs=number / group.num_sequences if group.num_sequences else 0.0,
        )
        for group, number in zip(groups, taken, strict=True)
    ]


def scarcest(uses: Sequence[TaskUse]) -> TaskUse:
    """The task whose sequences are repeated most often."""
    return max(uses, key=lambda use: use.epochs)

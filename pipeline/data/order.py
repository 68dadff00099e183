"""Which sequences make up step k: a pure function of the seed and k, whatever came before."""

from collections.abc import Sequence
from functools import lru_cache

from pipeline.data.permutation import Permutation

_ORDER_STREAM = 1
"""Keeps the shuffle's random numbers apart from those of masks and dropout."""


class TaskSchedule:
    """An endless sequence of slots, each given to a task, in proportion to `quotas` and interleaved.

    Slot s goes to the task with the largest quotient quota / (2 n + 1), n being the slots that it has
    (Webster's method); ties go to the first. Every window of Σ quotas slots that starts at a multiple of
    Σ quotas holds exactly the quotas, and no task is ever far from its share, however small.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        if not quotas or min(quotas) < 0 or sum(quotas) == 0:
            raise ValueError("quotas are non-negative numbers with a positive sum")
        self._quotas = [int(quota) for quota in quotas]
        self._total = sum(self._quotas)

    def slots_before(self, slot: int) -> list[int]:
        """Slots of each task among the first `slot`; O(T²) whatever `slot` is."""
        # All seats with quotient above a common threshold, surely fewer than `slot`; then one by one.
        x = max(slot - len(self._quotas), 0)
        seats = [(2 * quota * x + self._total) // (2 * self._total) for quota in self._quotas]
        for _ in range(slot - sum(seats)):
            seats[self._next(seats)] += 1
        return seats

    def tasks(self, first: int, num_slots: int) -> list[int]:
        """Tasks of the slots `first` to `first + num_slots − 1`."""
        seats = self.slots_before(first)
        tasks = []
        for _ in range(num_slots):
            task = self._next(seats)
            seats[task] += 1
            tasks.append(task)
        return tasks

    def _next(self, seats: list[int]) -> int:
        best = -1
        for task, quota in enumerate(self._quotas):
            if quota and (
                best < 0 or quota * (2 * seats[best] + 1) > self._quotas[best] * (2 * seats[task] + 1)
            ):
                best = task
        return best


class StepOrder:
    """Picks the sequences of every step from task groups, each in shuffled epochs of its own.

    Nothing is stored: any part of any step is worked out from the seed alone.
    """

    def __init__(
        self, group_sizes: Sequence[int], quotas: Sequence[int], global_size: int, seed: int
    ) -> None:
        if any(quota and not size for quota, size in zip(quotas, group_sizes, strict=True)):
            raise ValueError("a task without sequences must have quota 0")
        self._sizes = group_sizes
        self._schedule = TaskSchedule(quotas)
        self._global_size = global_size
        self._seed = seed

    def step(self, step: int) -> list[tuple[int, int]]:
        """(task, index in its group) of the sequences of a step, counted from 0."""
        return self.part(step, 0, self._global_size)

    def part(self, step: int, first: int, num_sequences: int) -> list[tuple[int, int]]:
        """The same of `num_sequences` of them, from number `first` on."""
        slot = step * self._global_size + first
        taken = self._schedule.slots_before(slot)
        picked = []
        for task in self._schedule.tasks(slot, num_sequences):
            epoch, place = divmod(taken[task], self._sizes[task])
            picked.append((task, _shuffle(self._seed, task, epoch, self._sizes[task])[place]))
            taken[task] += 1
        return picked


@lru_cache(maxsize=64)
def _shuffle(seed: int, task: int, epoch: int, size: int) -> Permutation:
    return Permutation(size, [seed, _ORDER_STREAM, task, epoch])

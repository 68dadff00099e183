"""The task group of each training sequence: the task for which its words will be masked.

Sequences that hold words of the same tasks are of one pattern. How many of each pattern go to each task is
decided from their numbers alone; then any sequence finds its task from its place among those of its pattern.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Pattern = bytes
"""Which tasks a sequence holds words of: packed bits, a bit per task."""

_MOST_ROUNDS = 100
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def patterns(task_words: NDArray[np.integer]) -> list[Pattern]:
    """The pattern of each sequence.

    Args:
        task_words: [N, T] words of each task in each sequence.
    """
    return [row.tobytes() for row in np.packbits(task_words > 0, axis=1)]


def quotas(counts: Mapping[Pattern, int], num_tasks: int) -> dict[Pattern, NDArray[np.int64]]:
    """How many sequences of each pattern go to each task, such that groups are as even as they can be.

    Each pattern in turn is taken back and poured anew over the tasks it holds, the smallest groups first,
    until nothing changes. That lowers the sum of the squares of the group sizes, so a scarce task gets all
    sequences that hold it, up to an even share, and the others share what is left.

    Args:
        counts: sequences of each pattern.
        num_tasks: T.

    Returns:
        For each pattern [T] sequences; they add up to its count, or to 0 where it holds no task.
    """
    if not counts:
        return {}
    names = sorted(counts)
    bits = np.frombuffer(b"".join(names), np.uint8).reshape(len(names), -1)
    holds = np.unpackbits(bits, axis=1)[:, :num_tasks].astype(bool)
    totals = np.array([counts[name] for name in names], np.int64) * holds.any(axis=1)
    given = np.array([_spread(*pattern) for pattern in zip(totals, holds, strict=True)], np.int64)
    sizes = given.sum(axis=0)
    for _ in range(_MOST_ROUNDS):
        before = given.copy()
        for index in np.flatnonzero(totals):
            sizes -= given[index]
            given[index] = _poured(sizes, holds[index], int(totals[index]))
            sizes += given[index]
        if (given == before).all():
            break
    return dict(zip(names, given, strict=True))


def tasks_of(quota: NDArray[np.int64], places: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """[n] the task of the sequences at some places among all those of a pattern; -1 where it holds none.

    Places are permuted by a multiplication modulo their number, by about the golden ratio of it, so that
    every stretch of the corpus gives to each task in proportion.

    Args:
        quota: [T] sequences of the pattern for each task.
        places: [n] counted from 0 in the order of the corpus.
        seed: where the permutation begins.
    """
    total = int(quota.sum())
    if total == 0:
        return np.full(len(places), -1)
    step = max(round(total * _GOLDEN_RATIO), 1)
    while np.gcd(step, total) != 1:
        step += 1
    permuted = (places.astype(np.uint64) * np.uint64(step) + np.uint64(seed % total)) % np.uint64(total)
    return np.searchsorted(np.cumsum(quota), permuted.astype(np.int64), side="right")


def _spread(total: int, held: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[T] an even share for each task that is held."""
    each, rest = divmod(int(total), max(int(held.sum()), 1))
    return held * (each + (np.cumsum(held) <= rest))


def _poured(sizes: NDArray[np.int64], allowed: NDArray[np.bool_], amount: int) -> NDArray[np.int64]:
    """[T] `amount` sequences poured into the allowed groups, the smallest first."""
    poured = np.zeros(len(sizes), np.int64)
    tasks = np.flatnonzero(allowed)
    tasks = tasks[np.argsort(sizes[tasks], kind="stable")]
    filled = next(
        num
        for num in range(len(tasks), 0, -1)
        if sizes[tasks[:num]].sum() + amount > num * sizes[tasks[num - 1]] or num == 1
    )
    level, extra = divmod(int(sizes[tasks[:filled]].sum()) + amount, filled)
    poured[tasks[:filled]] = level - sizes[tasks[:filled]]
    poured[tasks[:extra]] += 1
    return poured

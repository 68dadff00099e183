"""The task group of each training sequence: the task for which its words will be masked."""

import numpy as np
from numpy.typing import NDArray

UNASSIGNED = -1


def assign_groups(task_words: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """One task per sequence such that groups are nearly even, scarce tasks served first.

    Each task in turn, from the one that the fewest sequences hold, takes sequences that hold it, drawn at
    random, up to an even share of what is left. What then remains goes to the smallest group it can join.

    Args:
        task_words: [N, T] words of each task in each sequence.
        seed: decides which sequences are drawn.

    Returns:
        [N] task of each sequence; UNASSIGNED where it holds no word of any task.
    """
    num_sequences, num_tasks = task_words.shape
    holds = task_words > 0
    groups = np.full(num_sequences, UNASSIGNED)
    order = np.random.default_rng(seed).permutation(num_sequences)
    scarcest_first = np.argsort(holds.sum(axis=0), kind="stable")
    usable = int(holds.any(axis=1).sum())
    for served, task in enumerate(scarcest_first):
        share = -(-(usable - np.count_nonzero(groups != UNASSIGNED)) // (num_tasks - served))
        candidates = order[(holds[:, task] & (groups == UNASSIGNED))[order]]
        groups[candidates[:share]] = task
    sizes = np.bincount(groups[groups != UNASSIGNED], minlength=num_tasks)
    for sequence in order[(holds.any(axis=1) & (groups == UNASSIGNED))[order]]:
        tasks = np.flatnonzero(holds[sequence])
        task = tasks[np.argmin(sizes[tasks])]
        groups[sequence] = task
        sizes[task] += 1
    return groups

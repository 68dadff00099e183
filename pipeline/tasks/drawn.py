"""Tasks of pieces drawn at random: what is left of the shards' tasks when only their sizes are kept."""

import numpy as np
from numpy.typing import NDArray


def draw_tasks(labels: NDArray[np.int64], sizes: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A task [V] for each piece, so that tasks have so many labels, as near as whole pieces allow.

    Pieces are drawn one by one, frequent ones first, each into a task that has room for it, with the
    probability of the room. Where none has, the one with most room takes it. Pieces that are never a label
    are drawn by the sizes.

    Args:
        labels: [V] how often each piece is a label.
        sizes: [T] labels of each task; as many in all.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(-labels[order], kind="stable")]  # of equally frequent pieces any first
    room = sizes.copy()
    tasks = np.empty(len(labels), np.int64)
    for piece in order:
        weights = np.where(room >= labels[piece], room, 0) if labels[piece] else sizes
        total = weights.sum()
        tasks[piece] = random.choice(len(sizes), p=weights / total) if total else room.argmax()
        room[tasks[piece]] -= labels[piece]
    return tasks

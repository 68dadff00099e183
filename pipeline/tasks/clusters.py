"""Tasks of pieces that are learned alike: k-means on their loss curves."""

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from data_prep.errors import UserError
from pipeline.tasks.loss_curves import LossCurves

_NUM_STARTS = 10
"""Of k-means, of which the best is taken."""


def curve_tasks(
    curves: LossCurves, labels: NDArray[np.int64], num_tasks: int, seed: int
) -> NDArray[np.int64]:
    """A task [V] for each piece, from the task with the lowest final loss, 0, to that with the highest.

    Args:
        curves: what was measured on a sample of the training sequences.
        labels: [V] how often each piece is a label in all of them; its weight.
        num_tasks: how many.
        seed: of k-means.

    Raises:
        UserError: there are not as many different curves.
    """
    points = shrunk(curves, labels)
    counted = labels > 0
    num_different = len(np.unique(points[counted], axis=0))
    if num_different < num_tasks:
        raise UserError(f"--num-tasks {num_tasks}: only {num_different} different loss curves; ask for fewer")
    means = KMeans(num_tasks, n_init=_NUM_STARTS, random_state=seed % 2**32)  # it takes no larger one
    means.fit(points[counted], sample_weight=labels[counted])
    found = means.predict(points)
    by_task = np.bincount(found, labels * points[:, -1], num_tasks) / np.bincount(found, labels, num_tasks)
    rank = np.empty(num_tasks, np.int64)
    rank[by_task.argsort()] = np.arange(num_tasks)
    return rank[found]


def shrunk(curves: LossCurves, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[V, K] mean losses, those of rarely seen pieces drawn to the mean curve of pieces of like frequency.

    With n labels a piece keeps n τ² / (n τ² + σ²) of its own curve, σ² being the variance of the losses of
    one piece and τ² that of pieces of like frequency (within a factor of two), both estimated from all of
    them, the latter by the method of moments (DerSimonian and Laird 1986).
    """
    counts = curves.counts[:, None]
    means = np.divide(curves.losses, counts, out=np.zeros_like(curves.losses), where=counts > 0)
    like = _means_of_like_frequency(curves, labels)
    own = _share_of_own(curves, means, like, labels)[:, None]
    return own * means + (1 - own) * like


def _means_of_like_frequency(curves: LossCurves, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """[V, K]; where no piece of that frequency was seen, of the next more frequent ones."""
    levels = _levels(labels)
    result = np.empty_like(curves.losses)
    mean = curves.losses.sum(axis=0) / curves.counts.sum()
    for level in np.unique(levels)[::-1]:
        members = levels == level
        if number := curves.counts[members].sum():
            mean = curves.losses[members].sum(axis=0) / number
        result[members] = mean
    return result


def _share_of_own(
    curves: LossCurves,
    means: NDArray[np.float64],
    like: NDArray[np.float64],
    labels: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[V] in [0, 1]: what a piece keeps of its own curve."""
    counts, seen = curves.counts, curves.counts > 0
    num_labels, num_pieces = counts.sum(), seen.sum()
    levels = _levels(labels)
    num_levels = len(np.unique(levels[seen]))
    within = (curves.squares - counts[:, None] * means**2).sum()
    within /= max(1, num_labels - num_pieces)
    between = (counts[:, None] * (means - like) ** 2).sum() - within * (num_pieces - num_levels)
    of_level = np.bincount(levels, counts)[levels]
    spread = num_labels - (counts[seen] ** 2 / of_level[seen]).sum()
    between = max(0.0, between / spread) if spread > 0 else 0.0
    of_own = counts * between
    return np.divide(of_own, of_own + within, out=np.zeros(len(counts)), where=of_own > 0)


def _levels(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """[V] pieces of a level are alike in frequency up to a factor of two."""
    return np.floor(np.log2(labels + 1)).astype(np.int64)

"""The loss that a model must beat: each task's unigram distribution, estimated on the training text."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from pipeline.data.shards import Shards
from pipeline.data.text_held_out import HeldOutText
from pipeline.data.word_tasks import WordTasks


def unigram_losses(shards: Shards, held_out: HeldOutText) -> dict[str, float]:
    """Cross entropy in nats of each task's unigram distribution on the split's masked pieces."""
    log_probabilities = np.log(task_unigrams(shards.piece_counts()))
    losses = np.zeros(len(shards.task_names))
    counts = np.zeros(len(shards.task_names))
    for task, pieces in held_out.masked_pieces():
        losses[task] -= log_probabilities[task, pieces].sum()
        counts[task] += len(pieces)
    return {
        name: float(loss / count)
        for name, loss, count in zip(shards.task_names, losses, counts, strict=True)
        if count
    }


def unigram_entropies(shards: Shards, tasks: WordTasks) -> dict[str, float]:
    """Entropy in nats of each task's unigram distribution, estimated on the training text."""
    unigrams = task_unigrams(tasks.regrouped(shards.piece_counts()))
    return dict(zip(tasks.names, entr(unigrams).sum(axis=1).tolist(), strict=True))


def task_unigrams(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """[T, V] p_t(x) = (c_t(x) + k_t p(x)) / (n_t + k_t), from counts [T, V].

    k_t is the number of distinct pieces of task t (Witten and Bell 1991), p the unigram distribution of all
    tasks together, itself smoothed by one count per piece. Without this every unseen piece would cost
    infinity; additive smoothing would make the scarce tasks' distributions needlessly easy to beat.
    """
    pooled = counts.sum(axis=0) + 1.0
    pooled /= pooled.sum()
    distinct = np.maximum((counts > 0).sum(axis=1, keepdims=True), 1)
    return (counts + distinct * pooled) / (counts.sum(axis=1, keepdims=True) + distinct)

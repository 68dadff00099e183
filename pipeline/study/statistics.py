"""How sure a comparison is: errors over seeds, intervals over seeds and documents, Holm's correction.

A metric is one number per run: the loss of the worst task, the average over tasks, or the loss of a task.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from pipeline.evaluation import MIN_CLUSTERS

Array = NDArray[np.float64]
WORST, AVERAGE = "worst", "average"
_RESAMPLES = 2_000
_RESAMPLES_AT_ONCE = 100
_SEED = 0
_SMALLEST_P = 1e-12
"""Less is not told apart."""


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its standard error, which one seed does not have."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Difference:
    """A paired difference with its 95 % interval and two-sided p-value; None where nothing can be said."""

    value: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mean_over_seeds(values: Array) -> Mean:
    """Of values [S]."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return Mean(float(values.mean()), error)


def task_losses(sums: Array, counts: Array) -> Array:
    """[S, T] mean losses of tasks, from loss sums [S, C, T] and counts [C, T]; NaN of a task without any."""
    totals = counts.sum(axis=0)
    return np.divide(sums.sum(axis=1), totals, out=np.full_like(sums[:, 0], np.nan), where=totals > 0)


def metrics(task_losses: Array, judged: NDArray[np.bool_]) -> Array:
    """[..., 2 + T] worst and average over judged tasks, and each task, from task losses [..., T]."""
    compared = task_losses[..., judged]
    worst = np.max(compared, axis=-1, keepdims=True)
    return np.concatenate([worst, compared.mean(axis=-1, keepdims=True), task_losses], axis=-1)


class Resampling:
    """The same resamples of documents and seeds for every arm of a split.

    The runs of an arm and the documents are crossed: each run is scored on each document. Both are drawn with
    replacement, documents C of C, seeds S − 1 of S, which makes the variance of a mean of few right (Rao and
    Wu 1988), since percentiles of so few would be far too narrow. The standard error has a part of seeds and
    one of documents. Each by itself would make an interval of t times its part, with its own degrees of
    freedom; the interval of both is as wide as the root of the sum of their squares (Zou and Donner 2008).
    One t for the whole error would be too short where the part of two or three seeds happens to come out
    small.
    """

    def __init__(self, counts: Array, judged: NDArray[np.bool_], num_seeds: int) -> None:
        """Draw them.

        Args:
            counts: predictions [C, T].
            judged: [T] tasks that are compared.
            num_seeds: S.
        """
        self._counts = counts
        self._judged = judged
        random = np.random.default_rng(_SEED)
        num_documents = len(counts)
        self._num_documents, self._num_seeds = num_documents, num_seeds
        shares = np.full(num_documents, 1 / num_documents)
        self._documents = [
            random.multinomial(num_documents, shares, size=_RESAMPLES_AT_ONCE).astype(np.float64)
            for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE)
        ]
        self._seeds = random.integers(num_seeds, size=(_RESAMPLES, max(num_seeds - 1, 1)))

    @property
    def says_something(self) -> bool:
        """Whether there are seeds and documents enough for an interval."""
        return self._num_seeds > 1 and self._num_documents >= MIN_CLUSTERS

    def metrics(self, losses: Array) -> Array:
        """[R, S, 2 + T] metrics of an arm with documents drawn again, from its loss sums [S, C, T]."""
        by_document = losses.transpose(1, 0, 2).reshape(self._num_documents, -1)
        parts = []
        for draws in self._documents:
            sums = (draws @ by_document).reshape(len(draws), len(losses), -1)
            counts = (draws @ self._counts)[:, None]
            means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
            parts.append(metrics(means, self._judged))
        return np.concatenate(parts)

    def differences(self, values: Array, drawn: Array) -> list[Difference]:
        """A difference for each metric.

        Args:
            values: [S, M] differences seed by seed, on all documents.
            drawn: [R, S, M] the same with documents drawn again.
        """
        estimates = values.mean(axis=0)
        if not self.says_something:
            return [Difference(float(estimate), None, None, None) for estimate in estimates]
        of_documents = drawn.mean(axis=1).var(axis=0, ddof=1)
        rows = np.arange(len(drawn))[:, None]
        of_both = drawn[rows, self._seeds].mean(axis=1).var(axis=0, ddof=1)
        of_seeds = np.maximum(of_both - of_documents, 0.0)
        return [
            self._difference(float(estimate), float(seeds), float(documents))
            for estimate, seeds, documents in zip(estimates, of_seeds, of_documents, strict=True)
        ]

    def _difference(self, value: float, of_seeds: float, of_documents: float) -> Difference:
        """Of an estimate with two parts of its variance."""
        if not math.isfinite(of_seeds + of_documents):  # a resample has no word of the task
            return Difference(value, None, None, None)

        def half(level: float) -> float:
            """Of the interval that misses as often as `level` says."""
            of_t = stats.t.isf(level / 2, [self._num_seeds - 1, self._num_documents - 1])
            return math.sqrt(of_t[0] ** 2 * of_seeds + of_t[1] ** 2 * of_documents)

        if abs(value) <= half(1.0):  # both are 0
            p = 1.0
        elif abs(value) >= half(_SMALLEST_P):
            p = _SMALLEST_P
        else:
            p = brentq(lambda level: half(level) - abs(value), _SMALLEST_P, 1.0, xtol=_SMALLEST_P)
        return Difference(value, value - half(0.05), value + half(0.05), p)


def holm(p_values: list[float | None]) -> list[float | None]:
    """Holm's (1979) adjusted p-values, in the order given; an unknown one stays so, and counts."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        adjusted[place] = largest
    return adjusted

"""Errors, intervals and corrections: by hand where that can be done, else by how often they are right."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.study.statistics import Resampling, holm, mean_over_seeds, metrics, task_losses

ALL = np.array([True])


def difference(first, second, counts):
    """Of the worst task, between the loss sums [S, C, T] of two arms."""
    judged = np.ones(counts.shape[1], bool)
    resampling = Resampling(counts, judged, len(first))
    values = metrics(task_losses(first, counts), judged) - metrics(task_losses(second, counts), judged)
    drawn = resampling.metrics(first) - resampling.metrics(second)
    return resampling.differences(values, drawn)[0]


def test_a_mean_over_seeds_has_the_standard_error_of_a_mean():
    mean = mean_over_seeds(np.array([1.0, 2.0, 6.0]))
    assert mean.value == 3.0
    assert mean.error == pytest.approx(math.sqrt(7) / math.sqrt(3))  # variance (4 + 1 + 9) / 2


def test_a_single_seed_has_no_error():
    assert mean_over_seeds(np.array([1.0])).error is None


def test_a_task_loss_is_a_mean_over_words_not_over_documents():
    counts = np.array([[1.0, 0.0], [99.0, 0.0]])
    losses = task_losses(np.array([[[10.0, 0.0], [99.0, 0.0]]]), counts)
    assert losses[0, 0] == pytest.approx(1.09)
    assert math.isnan(losses[0, 1])


def test_tasks_that_are_not_judged_are_neither_worst_nor_averaged():
    found = metrics(np.array([[1.0, 2.0, 9.0]]), np.array([True, True, False]))
    assert found.tolist() == [[2.0, 1.5, 1.0, 2.0, 9.0]]


def test_of_documents_all_alike_seeds_alone_make_the_interval():
    counts = np.full((40, 1), 10.0)
    first = np.full((3, 40, 1), 10.0) * np.array([5.0, 6.0, 7.0])[:, None, None]
    second = np.full((3, 40, 1), 10.0) * np.array([4.0, 4.0, 4.0])[:, None, None]
    found = difference(first, second, counts)
    half = stats.t.ppf(0.975, 2) * 1 / math.sqrt(3)  # the differences are 1, 2, 3
    assert found.value == pytest.approx(2.0)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    assert found.high + found.low == pytest.approx(2 * found.value)
    assert found.p == pytest.approx(2 * stats.t.sf(2 * math.sqrt(3), 2), rel=0.1)


def test_of_seeds_all_alike_documents_alone_make_the_interval():
    random = np.random.default_rng(0)
    counts = np.full((50, 1), 10.0)
    by_document = random.normal(0.5, 1.0, 50)
    first = np.tile((4 + by_document) * 10, (4, 1))[..., None]
    second = np.full((4, 50, 1), 40.0)
    found = difference(first, second, counts)
    half = stats.t.ppf(0.975, 49) * by_document.std() / math.sqrt(50)
    assert found.value == pytest.approx(by_document.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


def test_what_a_seed_does_to_both_arms_cancels():
    random = np.random.default_rng(1)
    counts = np.full((40, 1), 10.0)
    own = 10 * random.normal(5, 0.1, (5, 40, 1))
    shared = 10 * random.normal(0, 3, (5, 1, 1))
    alone = difference(own, np.full((5, 40, 1), 50.0), counts)
    paired = difference(own + shared, np.full((5, 40, 1), 50.0) + shared, counts)
    assert (paired.low, paired.high) == (pytest.approx(alone.low), pytest.approx(alone.high))


@pytest.mark.parametrize(
    "num_seeds, of_seed, of_document, of_both",
    [
        (5, 0.2, 0.05, 0.3),
        (5, 0.05, 1.0, 0.3),
        (5, 0.2, 1.0, 0.3),
        (3, 0.3, 1.0, 0.3),
        (2, 0.4, 1.0, 0.3),
        (2, 0.2, 0.2, 0.3),
        (2, 0.2, 0.0, 0.0),
    ],
)
def test_the_interval_holds_the_true_difference_in_nineteen_of_twenty_studies(
    num_seeds, of_seed, of_document, of_both
):
    random = np.random.default_rng(2)
    num_documents, num_studies = 60, 300
    counts = random.integers(5, 30, size=(num_documents, 1)).astype(float)
    resampling = Resampling(counts, ALL, num_seeds)
    covered, num_sure = 0, 0
    for _ in range(num_studies):
        differences = (
            0.7
            + random.normal(0, of_seed, (num_seeds, 1, 1))
            + random.normal(0, of_document, (1, num_documents, 1))
            + random.normal(0, of_both, (num_seeds, num_documents, 1))
        )
        sums = differences * counts
        values = metrics(task_losses(sums, counts), ALL)
        found = resampling.differences(values, resampling.metrics(sums))[0]
        covered += found.low <= 0.7 <= found.high
        num_sure += resampling.differences(values - 0.7, resampling.metrics(sums) - 0.7)[0].p < 0.001
    assert covered / num_studies >= 0.925
    assert num_sure <= 3  # of a difference of 0: 0.3 are to be expected


@pytest.mark.parametrize("num_seeds, num_documents", [(1, 40), (5, 9)])
def test_one_seed_or_a_handful_of_documents_gives_no_interval(num_seeds, num_documents):
    counts = np.full((num_documents, 1), 10.0)
    random = np.random.default_rng(3)
    arms = random.normal(50, 1, (2, num_seeds, num_documents, 1))
    found = difference(*arms, counts)
    assert (found.low, found.high, found.p) == (None, None, None)
    assert not found.is_clear


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls_behind():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.03]) == pytest.approx([0.04, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None, 0.01]) == [None, 0.02]

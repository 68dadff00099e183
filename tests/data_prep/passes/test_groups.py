"""The task group of each sequence."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_prep.passes.groups import patterns, quotas, tasks_of

UNASSIGNED = -1

task_words = arrays.arrays(
    np.int64,
    st.tuples(st.integers(0, 60), st.integers(1, 12)),
    elements=st.sampled_from([0, 0, 1, 5]),
)
seeds = st.integers(0, 100)


def assign_groups(task_words, seed):
    """The group of each sequence, as blocks find it one after the other."""
    names = patterns(task_words)
    quota = quotas(Counter(names), task_words.shape[1])
    seen = Counter()
    groups = []
    for name in names:
        groups.append(int(tasks_of(quota[name], np.array([seen[name]]), seed)[0]))
        seen[name] += 1
    return np.array(groups, np.int64)


@given(task_words, seeds)
def test_a_sequence_stands_in_the_group_of_a_task_whose_words_it_holds(task_words, seed):
    groups = assign_groups(task_words, seed)
    assert len(groups) == len(task_words)
    for words, group in zip(task_words, groups, strict=True):
        assert words[group] > 0 if group != UNASSIGNED else not words.any()


@given(task_words, seeds)
def test_groups_are_a_function_of_the_words_and_the_seed(task_words, seed):
    assert assign_groups(task_words, seed).tolist() == assign_groups(task_words, seed).tolist()


@given(task_words, seeds)
def test_the_scarcest_task_gets_all_its_sequences_up_to_an_even_share(task_words, seed):
    holders = (task_words > 0).sum(axis=0)
    usable = int((task_words > 0).any(axis=1).sum())
    scarcest = int(np.argmin(holders))
    even_share = usable // task_words.shape[1]
    size = np.count_nonzero(assign_groups(task_words, seed) == scarcest)
    assert size >= min(holders[scarcest], even_share)


@given(st.integers(1, 200), st.integers(1, 9), seeds)
def test_groups_are_even_where_every_sequence_holds_every_task(num_sequences, num_tasks, seed):
    groups = assign_groups(np.ones((num_sequences, num_tasks), np.int64), seed)
    sizes = np.bincount(groups, minlength=num_tasks)
    assert sizes.max() - sizes.min() <= 1


def test_groups_are_even_where_scarce_tasks_leave_room_for_it():
    words = np.ones((90, 9), np.int64)
    words[12:, 8] = 0
    words[25:, 4] = 0
    assert np.bincount(assign_groups(words, 0)).tolist() == [10] * 9


def test_a_task_too_scarce_for_an_even_share_keeps_all_it_has_and_the_others_are_even():
    words = np.ones((83, 9), np.int64)
    words[3:, 8] = 0
    sizes = np.bincount(assign_groups(words, 0))
    assert sizes.tolist() == [10] * 8 + [3]


def test_a_task_without_words_gets_no_sequence_and_the_others_share_all():
    words = np.ones((80, 9), np.int64)
    words[:, 5] = 0
    sizes = np.bincount(assign_groups(words, 0), minlength=9)
    assert sizes.tolist() == [10, 10, 10, 10, 10, 0, 10, 10, 10]


def test_another_seed_draws_other_sequences():
    words = np.ones((90, 9), np.int64)
    assert assign_groups(words, 0).tolist() != assign_groups(words, 1).tolist()


@pytest.mark.parametrize("shape", [(0, 9), (3, 9)])
def test_nothing_to_group_is_no_mistake(shape):
    assert assign_groups(np.zeros(shape, np.int64), 0).tolist() == [UNASSIGNED] * shape[0]


def test_every_stretch_of_the_corpus_gives_to_each_task_in_proportion():
    quota = quotas({b"\xf0": 100_000}, 4)[b"\xf0"]
    for first in range(0, 100_000, 9_973):
        tasks = tasks_of(quota, np.arange(first, min(first + 400, 100_000)), seed=0)
        shares = np.bincount(tasks, minlength=4) / len(tasks)
        assert abs(shares - 0.25).max() < 0.02


def test_a_task_takes_from_all_patterns_that_hold_it():
    """Interjections in two kinds of sequences: neither kind is used up first."""
    quota = quotas({b"\xc0": 500, b"\xa0": 300, b"\x40": 5_000, b"\x20": 5_000}, 3)
    assert quota[b"\xc0"].tolist() == [500, 0, 0]
    assert quota[b"\xa0"].tolist() == [300, 0, 0]
    even = quotas({b"\xc0": 3_000, b"\xa0": 3_000}, 3)
    assert even[b"\xc0"].tolist() == [1_000, 2_000, 0]
    assert even[b"\xa0"].tolist() == [1_000, 0, 2_000]


@pytest.mark.parametrize(("num_tasks", "share"), [(34, 0.3), (60, 0.1)])
def test_many_tasks_get_even_groups_too_the_frequent_ones_among_them(num_tasks, share):
    words = np.random.default_rng(0).random((20_000, num_tasks)) < np.linspace(share, 0.9, num_tasks)
    sizes = np.bincount(assign_groups(words, 0)[words.any(axis=1)], minlength=num_tasks)
    assert sizes.max() - sizes.min() <= 2

"""Shuffled orders without memory: every place once, no order preferred."""

import itertools
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pipeline.data.permutation import Permutation

keys = st.lists(st.integers(0, 2**63), min_size=1, max_size=4)


def order(size, key):
    permutation = Permutation(size, key)
    return [permutation[place] for place in range(size)]


@settings(max_examples=300, deadline=None)
@given(size=st.integers(1, 600), key=keys)
def test_every_number_has_one_place(size, key):
    assert sorted(order(size, key)) == list(range(size))


@settings(max_examples=100, deadline=None)
@given(size=st.integers(2, 10**15), key=keys, places=st.sets(st.integers(0, 10**15), min_size=2, max_size=20))
def test_places_of_a_large_order_hold_different_numbers_of_its_range(size, key, places):
    permutation = Permutation(size, key)
    within = {place % size for place in places}
    found = {permutation[place] for place in within}
    assert len(found) == len(within)
    assert all(0 <= number < size for number in found)


def test_the_key_decides_the_order():
    assert order(100, [1, 2]) == order(100, [1, 2])
    assert order(100, [1, 2]) != order(100, [2, 1])
    assert order(100, [1, 2]) != order(100, [1, 3])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_of_few_numbers_all_orders_are_equally_likely(size):
    seen = Counter(tuple(order(size, [7, key])) for key in range(6_000))
    counts = [seen[numbers] for numbers in itertools.permutations(range(size))]
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [7, 10, 33])
def test_every_number_is_equally_likely_at_every_place(size):
    counts = np.zeros((size, size))
    for key in range(4_000):
        counts[range(size), order(size, [8, key])] += 1
    assert chisquare(counts.ravel(), ddof=2 * size - 2).pvalue > 1e-3


@pytest.mark.parametrize("size", [1_000, 4_096, 9_999])
def test_a_long_order_looks_like_a_random_one(size):
    numbers = np.array(order(size, [9]))
    spread = 5 / np.sqrt(size)  # five standard deviations
    assert abs(np.corrcoef(np.arange(size), numbers)[0, 1]) < spread
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < spread
    assert np.count_nonzero(numbers == np.arange(size)) < 8  # Poisson, mean 1
    steps = len(np.unique(np.diff(numbers) % size))
    assert steps == pytest.approx(size * (1 - np.exp(-1)), rel=0.1)


def test_two_epochs_have_nothing_to_do_with_each_other():
    first, second = (np.array(order(5_000, [0, 1, 3, epoch])) for epoch in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(5_000)
    assert np.count_nonzero(first == second) < 8


def test_an_order_takes_as_little_memory_for_a_trillion_numbers_as_for_ten():
    small, large = (Permutation(size, [0]) for size in (10, 10**12))
    assert sum(map(sys.getsizeof, vars(large).values())) <= sum(map(sys.getsizeof, vars(small).values())) + 64


@pytest.mark.parametrize("place", [-1, 5])
def test_there_is_no_place_outside(place):
    with pytest.raises(IndexError):
        Permutation(5, [0])[place]

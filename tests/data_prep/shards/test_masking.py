"""Whole words are masked, enough of them, and at least one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.schema import NO_WORD
from data_prep.shards.masking import Corruption, draw_masked


@st.composite
def sequences(draw):
    """Word ids of words of 1 to 4 pieces between positions without a word, and which words are eligible."""
    words, eligible = [], []
    for word in range(draw(st.integers(0, 25))):
        size, chosen = draw(st.integers(1, 4)), draw(st.booleans())
        words += [word] * size
        eligible += [chosen] * size
    words, eligible = [NO_WORD, *words, NO_WORD], [False, *eligible, False]
    return np.array(words, np.uint16), np.array(eligible)


@settings(max_examples=300, deadline=None)
@given(sequence=sequences(), rate=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_whole_eligible_words_are_masked_until_the_rate_or_half_of_them(sequence, rate, seed):
    word_ids, eligible = sequence
    positions = draw_masked(word_ids, eligible, rate, np.random.default_rng(seed))
    assert sorted(set(positions)) == list(positions)
    assert eligible[positions].all()
    masked_words = set(word_ids[positions].tolist())
    assert set(np.flatnonzero(np.isin(word_ids, list(masked_words)))) == set(positions)
    num_eligible = len(set(word_ids[eligible].tolist()))
    assert len(masked_words) <= max(1, num_eligible // 2)
    assert (len(masked_words) >= 1) == (num_eligible >= 1)
    if len(masked_words) < num_eligible // 2:
        assert len(positions) >= rate * len(word_ids)
    largest = max((int((word_ids == word).sum()) for word in masked_words), default=0)
    assert len(positions) < rate * len(word_ids) + largest or len(masked_words) == 1


def test_masked_pieces_become_mask_random_or_stay_in_the_given_parts():
    ordinary, mask_id = np.arange(10, 1_000), 4
    ids = np.full(40_000, 5, np.int64)
    Corruption((0.8, 0.1, 0.1), mask_id, ordinary).apply(ids, np.arange(30_000), np.random.default_rng(0))
    touched, untouched = ids[:30_000], ids[30_000:]
    assert (untouched == 5).all()
    assert abs((touched == mask_id).mean() - 0.8) < 0.01
    assert abs((touched == 5).mean() - 0.1) < 0.01
    assert np.isin(touched[(touched != mask_id) & (touched != 5)], ordinary).all()


def test_corruption_can_be_switched_off_in_all_three_ways():
    for parts, allowed in (((1, 0, 0), {4}), ((0, 1, 0), {8, 9}), ((0, 0, 1), {5})):
        ids = np.full(100, 5, np.int64)
        Corruption(parts, 4, np.array([8, 9])).apply(ids, np.arange(100), np.random.default_rng(0))
        assert set(ids.tolist()) == allowed

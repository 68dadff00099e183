"""Hashes of words and runs of words."""

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.ngrams import ngram_hashes, plain_words, word_hashes

WORDS = st.lists(st.text(max_size=5), max_size=30)


def test_words_are_lower_case_and_lose_punctuation():
    assert plain_words("“Don't,” she said--TWICE (2×).") == ["don", "t", "she", "said", "twice", "2"]


def test_a_word_hash_is_the_xxh3_of_the_word():
    assert word_hashes(["naïve", ""]).tolist() == [
        xxhash.xxh3_64_intdigest("naïve".encode()),
        xxhash.xxh3_64_intdigest(b""),
    ]
    assert word_hashes([]).dtype == np.uint64


@given(WORDS, st.integers(1, 15))
def test_runs_have_the_same_hash_exactly_where_they_have_the_same_words(words, n):
    hashes = ngram_hashes(word_hashes(words), n)
    runs = [tuple(words[start : start + n]) for start in range(max(0, len(words) - n + 1))]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))


@given(WORDS, WORDS)
def test_a_run_hashes_alike_wherever_it_stands(before, after):
    run = ["the", "same", "four", "words"]
    hashes = ngram_hashes(word_hashes([*before, *run, *after]), 4)
    assert hashes[len(before)] == ngram_hashes(word_hashes(run), 4)[0]

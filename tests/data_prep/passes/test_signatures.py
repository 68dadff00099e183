"""Near-duplicates, against the Jaccard similarity of all pairs."""

import random
from itertools import combinations

import numpy as np
import pytest

from data_prep.passes.signatures import NEAR_DUPLICATE, Signer, near_duplicates


def words(seed, num_words):
    generator = random.Random(seed)
    return [f"w{generator.randrange(2_000)}" for _ in range(num_words)]


def altered(original, share, seed):
    """A copy with one stretch of words replaced."""
    generator = random.Random(seed)
    length = int(len(original) * share)
    first = generator.randrange(len(original) - length)
    return [*original[:first], *words(f"new{seed}", length), *original[first + length :]]


def similarity(first, second):
    grams = [{tuple(text[i : i + 5]) for i in range(len(text) - 4)} for text in (first, second)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def leaders(texts):
    signer = Signer()
    return near_duplicates(np.stack([np.frombuffer(signer.sign(text), "<u4") for text in texts]))


@pytest.fixture(scope="module")
def texts():
    """A hundred originals; of each, a copy altered more and more."""
    originals = [words(seed, 600) for seed in range(100)]
    return originals + [altered(text, seed / 200, seed) for seed, text in enumerate(originals)]


def test_copies_well_above_the_threshold_are_found_and_those_well_below_it_are_not(texts):
    found = leaders(texts)
    for number in range(100):
        alike = similarity(texts[number], texts[100 + number])
        if alike > NEAR_DUPLICATE + 0.12:  # three standard deviations of 128 values
            assert found[100 + number] == number
        if alike < NEAR_DUPLICATE - 0.12:
            assert found[100 + number] == 100 + number


def test_texts_that_have_nothing_to_do_with_each_other_stay_apart(texts):
    assert leaders(texts[:100]).tolist() == list(range(100))
    assert max(similarity(*pair) for pair in combinations(texts[:20], 2)) < 0.01


def test_a_cluster_is_led_by_its_first_document(texts):
    shuffled = [texts[5], texts[100], texts[0], texts[0], texts[105]]
    assert leaders(shuffled).tolist() == [0, 1, 1, 1, 0]


def test_many_copies_of_one_text_are_compared_in_linear_time():
    copies = [words(0, 50)] * 20_000
    assert (leaders(copies) == 0).all()


@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_texts_shorter_than_an_ngram_are_alike_if_they_are_the_same(length):
    first, second = words(1, length), words(2, length)
    assert leaders([first, second, first, [word.upper() for word in second]]).tolist() == [0, 1, 0, 1]


def test_one_document_is_no_duplicate():
    assert leaders([words(0, 10)]).tolist() == [0]

"""Hashes of words and of runs of words, for finding texts that share some."""

import re
from collections.abc import Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing


def plain_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def word_hashes(words: Sequence[str]) -> Hashes:
    """A hash for each of W words: uint64 [W]."""
    encoded = (word.encode("utf-8", "surrogatepass") for word in words)
    return np.fromiter(map(xxhash.xxh3_64_intdigest, encoded), np.uint64, len(words))


def ngram_hashes(hashes: Hashes, n: int) -> Hashes:
    """A hash for each run of `n` words, from the word hashes [W]: uint64 [max(0, W - n + 1)].

    Position i is Σ_k hashes[i + k] · base^(n - 1 - k) mod 2^64: the order of the words counts.
    """
    num_ngrams = max(0, len(hashes) - n + 1)
    combined = np.zeros(num_ngrams, np.uint64)
    for offset in range(n):
        combined *= _BASE
        combined += hashes[offset : offset + num_ngrams]
    return combined

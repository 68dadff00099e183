"""MinHash signatures of documents (datasketch), and which documents are near-duplicates."""

from collections.abc import Iterator

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_prep.corpus.ngrams import ngram_hashes, word_hashes

_NGRAM = 5
NEAR_DUPLICATE = 0.7
"""Jaccard similarity of word 5-grams from which two documents are near-duplicates."""
_BANDS, _BAND = 32, 4
"""Documents that agree in a band are compared: 99.98 % of those of similarity 0.7, 1 - (1 - 0.7⁴)³²."""
_PERMUTATIONS = _BANDS * _BAND
SIGNATURE_BYTES = 4 * _PERMUTATIONS
_NGRAMS_AT_ONCE = 8_192
_PAIRS_AT_ONCE = 65_536


class Signer:
    """Signs documents; the permutations are drawn once."""

    def __init__(self) -> None:
        self._empty = MinHash(_PERMUTATIONS, hashfunc=int, scheme="affine32")

    def sign(self, words: list[str]) -> bytes:
        """The MinHash of the word 5-grams of a document, or of all its words where it has fewer."""
        hashes = word_hashes([word.lower() for word in words])
        grams = np.unique(ngram_hashes(hashes, min(_NGRAM, len(hashes)))).astype(np.uint32)
        signature = self._empty.copy()
        for first in range(0, len(grams), _NGRAMS_AT_ONCE):
            signature.update_batch(grams[first : first + _NGRAMS_AT_ONCE].tolist())
        return signature.hashvalues.astype("<u4").tobytes()


def near_duplicates(signatures: NDArray[np.uint32]) -> NDArray[np.int64]:
    """[N] for each document the first one of its cluster, perhaps itself.

    Clusters are the connected components of the near-duplicate relation. Within the documents that agree in
    a band, in order, each is compared with the first and with the one before: a number of comparisons that
    grows with N, not with the square of the largest group. Those of one cluster are not compared again.

    Args:
        signatures: [N, permutations]; may be memory-mapped, it is read a band at a time.
    """
    leaders = np.arange(len(signatures))
    for band in range(_BANDS):
        pairs = _candidates(_band_keys(signatures, band))
        pairs = pairs[leaders[pairs[:, 0]] != leaders[pairs[:, 1]]]
        similar = [portion[_are_similar(signatures, portion)] for portion in _portions(pairs)]
        if similar:
            leaders = _joined(leaders, np.concatenate(similar))
    return leaders


def _joined(leaders: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """[N] leaders when the clusters of each of `pairs` [pairs, 2] become one."""
    num = len(leaders)
    first, second = leaders[pairs].T
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(num, num))
    _, labels = connected_components(graph, directed=False)
    _, first_of = np.unique(labels, return_index=True)
    return first_of[labels[leaders]]


def _band_keys(signatures: NDArray[np.uint32], band: int) -> NDArray[np.uint64]:
    keys = np.zeros(len(signatures), np.uint64)
    for column in np.array(signatures[:, band * _BAND : (band + 1) * _BAND]).T:
        keys = (keys + column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return keys


def _candidates(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[pairs, 2] documents of equal key: each with the first of them, and with the one before."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    firsts = starts[np.searchsorted(starts, same, side="right") - 1]
    pairs = np.concatenate([np.stack([firsts, same], 1), np.stack([same - 1, same], 1)])
    return order[np.unique(pairs, axis=0)]


def _portions(pairs: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (pairs[first : first + _PAIRS_AT_ONCE] for first in range(0, len(pairs), _PAIRS_AT_ONCE))


def _are_similar(signatures: NDArray[np.uint32], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    agreement = (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1)
    return agreement >= NEAR_DUPLICATE

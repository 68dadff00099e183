"""Which documents train and which are held out; near-duplicates and parts of a document stay together."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_prep.errors import CorpusError
from data_prep.schema import Split

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""Splits in the order of their numbers."""


def clusters(num: int, links: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """[N] cluster of each document, such that i and links[...][i] are in one, numbered by first document."""
    index = np.tile(np.arange(num), len(links))
    edges = coo_array((np.ones(len(index), np.bool_), (index, np.concatenate(links))), shape=(num, num))
    _, labels = connected_components(edges, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def assign_splits(
    cluster: NDArray[np.int64],
    words: NDArray[np.int64],
    names: NDArray[np.uint64],
    shares: dict[int, float],
    seed: int,
) -> NDArray[np.uint8]:
    """Draw whole clusters for the held-out splits until each has its share of the words.

    Args:
        cluster: [N] of each document, numbered by first document.
        words: [N] words of each document.
        names: [N] hash of each name; with the seed, that of a cluster's first document decides its draw.
        shares: part of the words for each held-out split.
        seed: decides the draw.

    Returns:
        [N] number of each document's split.

    Raises:
        CorpusError: a split would stay empty.
    """
    _, first, cluster = np.unique(cluster, return_index=True, return_inverse=True)
    sizes = np.bincount(cluster, weights=words).astype(np.int64)
    free = np.argsort(mix(names[first], seed), kind="stable")
    splits = np.zeros(len(sizes), np.uint8)
    for split, share in shares.items():
        taken = _take(free, sizes, share * sizes.sum(), most=max(len(sizes) // 4, 1))
        splits[taken] = split
        free = free[splits[free] == TRAIN]
        if not len(taken) or not len(free):
            raise CorpusError(
                f"the corpus is too small to hold a {SPLITS[split]} split out: {len(cluster)} documents, "
                f"{len(sizes)} if near-duplicates count once; give more text"
            )
    return splits[cluster]


def mix(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Other hashes for each seed (the finalizer of SplitMix64; Steele, Lea and Flood 2014)."""
    mixed = hashes + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _take(free: NDArray[np.int64], words: NDArray[np.int64], room: float, most: int) -> list[int]:
    """Clusters in order until `room` words are taken, none that would overshoot it by more than half.

    At least two, since half of the pairs need another document; at most `most`, lest small ones are used up.
    """
    taken: list[int] = []
    size = 0
    for number in map(int, free):  # a list of them all would not fit beside a large corpus's other numbers
        if len(taken) >= most or (size >= room and len(taken) >= 2):
            break
        length = int(words[number])
        if size + length <= 1.5 * room:
            taken.append(number)
            size += length
    missing = max(min(2, most) - len(taken), 0)
    if missing:
        rest = free[~np.isin(free, taken)]
        taken += rest[np.argsort(words[rest], kind="stable")[:missing]].tolist()
    return taken

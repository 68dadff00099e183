"""Which words of a sequence are masked, and what stands in their place."""

import numpy as np
from numpy.typing import NDArray

from data_prep.schema import NO_WORD

Random = np.random.Generator


def draw_masked(
    word_ids: NDArray, eligible: NDArray[np.bool_], rate: float, random: Random
) -> NDArray[np.int64]:
    """Positions to mask: whole words at random, until enough are.

    Words are drawn until `rate` of the sequence's n tokens are masked or half of the eligible words are,
    at least one if there is one.

    Args:
        word_ids: [n] word of each position, NO_WORD for none.
        eligible: [n] bool, positions whose words may be masked.
        rate: part of the n tokens.
        random: source of the draw.

    Returns:
        Masked positions, ascending.
    """
    words, sizes = np.unique(word_ids[eligible & (word_ids != NO_WORD)], return_counts=True)
    if not len(words):
        return np.empty(0, np.int64)
    drawn = random.permutation(len(words))[: max(1, len(words) // 2)]
    masked_before = np.cumsum(sizes[drawn]) - sizes[drawn]
    drawn = drawn[masked_before < rate * len(word_ids)]
    return np.flatnonzero(eligible & np.isin(word_ids, words[drawn]))


class Corruption:
    """Replaces masked pieces: a part by [MASK], a part by random pieces, the rest not at all."""

    def __init__(self, parts: tuple[float, float, float], mask_id: int, ordinary_ids: NDArray) -> None:
        self._mask_until, self._random_until = parts[0], parts[0] + parts[1]
        self._mask_id = mask_id
        self._ordinary_ids = ordinary_ids

    def apply(self, ids: NDArray[np.int64], positions: NDArray[np.int64], random: Random) -> None:
        """Overwrite `ids` [n] at `positions` in place."""
        draw = random.random(len(positions))
        replacement = random.choice(self._ordinary_ids, len(positions))
        ids[positions] = np.where(
            draw < self._mask_until,
            self._mask_id,
            np.where(draw < self._random_until, replacement, ids[positions]),
        )

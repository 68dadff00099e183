"""Shuffled orders that are computed place by place: they take no memory, whatever they shuffle."""

import math

import numpy as np

_ROUNDS = 12
_WORD = (1 << 64) - 1


class Permutation:
    """A pseudo-random permutation of range(size), a pure function of `key`.

    A Feistel network on a grid of a × b ≥ size cells: in turns, a column is shifted by a hash of the row and
    a row by a hash of the column. Each round can be undone, so all together permute the cells. A place that
    lands on a cell past `size` walks on along its cycle, which leads back below `size` (Black & Rogaway,
    Ciphers with Arbitrary Finite Domains, 2002).

    Args:
        size: number of places, at least 1.
        key: numbers that name the permutation.
    """

    def __init__(self, size: int, key: list[int]) -> None:
        self._size = size
        self._num_columns = math.isqrt(size - 1) + 1
        self._num_rows = -(-size // self._num_columns)
        self._keys = [int(word) for word in np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self._size:
            raise IndexError(place)
        cell = self._cell_after(place)
        while cell >= self._size:
            cell = self._cell_after(cell)
        return cell

    def _cell_after(self, cell: int) -> int:
        row, column = divmod(cell, self._num_columns)
        for number, key in enumerate(self._keys):
            if number % 2:
                row = (row + _mixed(column + key)) % self._num_rows
            else:
                column = (column + _mixed(row + key)) % self._num_columns
        return row * self._num_columns + column


def _mixed(number: int) -> int:
    """A hash on 64 bits in which every bit depends on all (the last steps of SplitMix64)."""
    number &= _WORD
    number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    number = (number ^ (number >> 27)) * 0x94D049BB133111EB & _WORD
    return number ^ (number >> 31)

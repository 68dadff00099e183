"""One shard counted again: rows, tokens, words per task, and the rows that break the format."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.schema import IS_NEXT, IS_RANDOM, NO_LABEL, NO_TASK, NO_WORD

_NUM_BYTES = 256
_NUM_WORD_IDS = 65_536


class Recount:
    """What the rows of a shard add up to, and which of them are at fault.

    Args:
        num_tasks: T.
        vocab_size: what every piece id is below.
        sequence_length: most pieces of a row.
        group: the task of whose words every row must hold one, or None.
    """

    def __init__(self, num_tasks: int, vocab_size: int, sequence_length: int, group: int | None) -> None:
        self._vocab_size = vocab_size
        self._sequence_length = sequence_length
        self._group = group
        self._faults: dict[str, tuple[int, int]] = {}
        self.rows = 0
        self.tokens = 0
        self.words = np.zeros(num_tasks, np.int64)
        """[T] words of each task."""

    @property
    def faults(self) -> list[str]:
        """Each way in which rows are at fault, with the first row and the number of rows."""
        return [
            f"row {first:,} {fault}" + (f", and {count - 1:,} more" if count > 1 else "")
            for fault, (first, count) in self._faults.items()
        ]

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of a batch that has the schema of a shard.

        Raises:
            pyarrow.ArrowInvalid: offsets that leave the buffers, or names that are not UTF-8.
        """
        batch.validate(full=True)
        if _has_nulls(batch):
            self._fault("or a later one holds a null", [0])
        else:
            self._add_lists(batch)
        self.rows += batch.num_rows

    def _add_lists(self, batch: pa.RecordBatch) -> None:
        lengths = [np.diff(batch.column(i).offsets.to_numpy()) for i in range(4)]
        num_segments = np.diff(batch.column(5).offsets.to_numpy())
        size = lengths[0]
        labels = batch.column(4).to_numpy()
        self._fault("has lists of unequal lengths", np.flatnonzero(np.any(lengths != size, axis=0)))
        self._fault("holds no piece", np.flatnonzero(size == 0))
        self._fault(
            f"is longer than {self._sequence_length:,} pieces", np.flatnonzero(size > self._sequence_length)
        )
        self._fault(
            f"has a next_sentence_label other than {NO_LABEL}, {IS_NEXT} or {IS_RANDOM}",
            np.flatnonzero((labels != NO_LABEL) & (labels != IS_NEXT) & (labels != IS_RANDOM)),
        )
        self.tokens += int(size.sum())
        if not batch.num_rows or any(not np.array_equal(other, size) for other in lengths) or not size.all():
            return  # the lists cannot be laid side by side
        ids, types, tasks, words = (batch.column(i).flatten().to_numpy() for i in range(4))
        starts = np.cumsum(size) - size
        if ids.max() >= self._vocab_size or ids.min() < 0:
            outside = (ids >= self._vocab_size) | (ids < 0)
            self._fault_at(f"holds a piece that is not below {self._vocab_size:,}", outside, starts)
        if types.max() >= num_segments.min():
            last = np.maximum.reduceat(types, starts)
            self._fault("has more segments than documents", np.flatnonzero(last >= num_segments))
        self._add_words(tasks, words, starts)

    def _add_words(self, tasks: NDArray[np.uint8], words: NDArray[np.uint16], starts: NDArray) -> None:
        """Count words from [N] tasks and word ids of pieces, and [R] where rows start among them."""
        begins = np.empty(len(words), np.bool_)  # a stretch of pieces with the same word id
        np.not_equal(words[1:], words[:-1], out=begins[1:])
        begins[starts] = True
        in_word = words != NO_WORD
        changes = np.empty(len(words), np.bool_)
        np.not_equal(tasks[1:], tasks[:-1], out=changes[1:])
        changes[0] = False
        self._fault_at("has a word of two tasks", changes & ~begins & in_word, starts)
        self._fault_at("gives a task to a piece of no word", ~in_word & (tasks != NO_TASK), starts)
        begins &= in_word
        word_ids, word_tasks = words[begins], tasks[begins]
        per_row = np.add.reduceat(begins, starts, dtype=np.int64)
        if _descends(word_ids, per_row):
            word_tasks = self._join_stretches(word_ids, word_tasks, per_row)
        counts = np.bincount(word_tasks, minlength=_NUM_BYTES)
        self.words += counts[: len(self.words)]
        if counts[len(self.words) : NO_TASK].any():
            unknown = (tasks >= len(self.words)) & (tasks != NO_TASK)
            self._fault_at(
                f"has a task id that is neither below {len(self.words)} nor {NO_TASK}", unknown, starts
            )
        if self._group is not None:
            held = np.logical_or.reduceat(tasks == self._group, starts)
            self._fault("holds no word of its task", np.flatnonzero(~held))

    def _join_stretches(
        self, word_ids: NDArray[np.uint16], word_tasks: NDArray[np.uint8], per_row: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """The task of each word, where words may lie in several stretches of pieces."""
        rows = np.repeat(np.arange(len(per_row)), per_row)
        keys = rows * _NUM_WORD_IDS + word_ids
        _, first, places = np.unique(keys, return_index=True, return_inverse=True)
        other_task = word_tasks != word_tasks[first][places]
        self._fault("has a word of two tasks", np.unique(rows[other_task]))
        return word_tasks[first]

    def _fault_at(self, fault: str, pieces: NDArray[np.bool_], starts: NDArray) -> None:
        """Note the rows of the pieces [N] that are at fault."""
        if pieces.any():
            self._fault(fault, np.unique(np.searchsorted(starts, np.flatnonzero(pieces), side="right") - 1))

    def _fault(self, fault: str, rows: Iterable[int]) -> None:
        """Note rows of the present batch."""
        rows = list(rows)
        if rows:
            first, count = self._faults.get(fault, (self.rows + int(rows[0]), 0))
            self._faults[fault] = (first, count + len(rows))


def _has_nulls(batch: pa.RecordBatch) -> bool:
    lists = [batch.column(i) for i in (0, 1, 2, 3, 5)]
    return any(column.null_count for column in batch.columns) or any(x.flatten().null_count for x in lists)


def _descends(word_ids: NDArray[np.uint16], per_row: NDArray[np.int64]) -> bool:
    """Whether the word ids [W] of some row, `per_row` [R] of them each, do not ascend."""
    if len(word_ids) < 2:
        return False
    descends = word_ids[1:] <= word_ids[:-1]
    row_ends = np.cumsum(per_row)[:-1]
    descends[row_ends[(row_ends > 0) & (row_ends < len(word_ids))] - 1] = False
    return bool(descends.any())

"""A sequence as a shard stores it, joined from segments of documents."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.schema import NO_TASK, NO_WORD
from data_prep.sequences.pieces import EncodedDocument
from data_prep.sequences.tokenizer import special_id


@dataclass(frozen=True)
class EncodedSequence:
    """One row of a shard, n pieces long: the arrays are [n]."""

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8]
    task_ids: NDArray[np.uint8]
    word_ids: NDArray[np.uint16]
    next_sentence_label: int
    doc_id: tuple[str, ...]
    """The document of each segment."""

    def __len__(self) -> int:
        return len(self.input_ids)

    def task_words(self, num_tasks: int) -> NDArray[np.int64]:
        """[num_tasks] words of each task."""
        first = np.diff(self.word_ids.astype(np.int64), prepend=-1) != 0
        tasks = self.task_ids[first & (self.word_ids != NO_WORD) & (self.task_ids != NO_TASK)]
        return np.bincount(tasks, minlength=num_tasks)


@dataclass(frozen=True)
class Segment:
    """The pieces from `start` to `end` of a document."""

    document: EncodedDocument
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


class Joiner:
    """Joins segments to [CLS] A [SEP] B [SEP] and so on."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._cls, self._sep = (special_id(tokenizer, special) for special in ("[CLS]", "[SEP]"))

    def join(self, segments: Sequence[Segment], types: Sequence[int], label: int) -> EncodedSequence:
        """A sequence of `segments`, each with its token type, and a next-sentence label."""
        num = 1 + sum(len(segment) + 1 for segment in segments)
        ids = np.full(num, self._sep, np.int32)
        ids[0] = self._cls
        token_types = np.zeros(num, np.uint8)
        tasks = np.full(num, NO_TASK, np.uint8)
        words = np.full(num, NO_WORD, np.uint16)
        place, num_words = 1, 0
        for segment, token_type in zip(segments, types, strict=True):
            span, end = slice(segment.start, segment.end), place + len(segment)
            ids[place:end] = segment.document.ids[span]
            token_types[place : end + 1] = token_type
            tasks[place:end] = segment.document.tasks[span]
            words[place:end], num_words = _renumber(segment.document.words[span], num_words)
            place = end + 1
        return EncodedSequence(
            input_ids=ids,
            token_type_ids=token_types,
            task_ids=tasks,
            word_ids=words,
            next_sentence_label=label,
            doc_id=tuple(segment.document.doc_id for segment in segments),
        )


def last_cut(document: EncodedDocument, start: int, limit: int) -> int:
    """The last place up to `limit` where a segment that begins at `start` may end."""
    end = int(document.cuts[np.searchsorted(document.cuts, limit, side="right") - 1])
    return end if end > start else min(limit, len(document))  # a word longer than the segment is cut


def _renumber(words: NDArray[np.int64], first: int) -> tuple[NDArray[np.uint16], int]:
    """Word ids counted from `first` within the sequence, NO_WORD for none; and the next free id.

    Args:
        words: [n] of pieces in order, so words ascend where there are any; -1 for none.
        first: the first free id.
    """
    known = words >= 0
    changes = np.diff(words[known], prepend=-1) != 0
    ranks = np.cumsum(changes) - 1 + first
    numbers = np.full(len(words), NO_WORD, np.uint16)
    numbers[known] = ranks
    return numbers, first + int(changes.sum())

"""Segment pairs with next-sentence labels, as in BERT (Devlin et al. 2019, appendix A.2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.schema import IS_NEXT, IS_RANDOM, NO_TASK, NO_WORD
from data_prep.sequences.pieces import EncodedDocument

_NUM_SPECIALS = 3  # [CLS] A [SEP] B [SEP]


@dataclass(frozen=True)
class PairedSequence:
    """One row of a shard, n pieces long: the arrays are [n]."""

    input_ids: NDArray[np.int32]
    token_type_ids: NDArray[np.uint8]
    task_ids: NDArray[np.uint8]
    word_ids: NDArray[np.uint16]
    next_sentence_label: int
    doc_id: tuple[str, str]

    def __len__(self) -> int:
        return len(self.input_ids)

    def task_words(self, num_tasks: int) -> NDArray[np.int64]:
        """[num_tasks] words of each task."""
        first = np.diff(self.word_ids.astype(np.int64), prepend=-1) != 0
        tasks = self.task_ids[first & (self.word_ids != NO_WORD) & (self.task_ids != NO_TASK)]
        return np.bincount(tasks, minlength=num_tasks)


@dataclass(frozen=True)
class _Segment:
    document: EncodedDocument
    start: int
    end: int


class PairBuilder:
    """Cuts documents into pairs of segments; half of the second ones come from another document.

    Segments start and end between words, mostly at sentences; a sequence is filled to its length where the
    document lasts. The pairs of a document are a pure function of the seed and its place among `documents`.
    """

    def __init__(
        self, documents: Sequence[EncodedDocument], tokenizer: Tokenizer, sequence_length: int, seed: int
    ) -> None:
        self._documents = documents
        self._cls = tokenizer.token_to_id("[CLS]")
        self._sep = tokenizer.token_to_id("[SEP]")
        self._budget = sequence_length - _NUM_SPECIALS
        self._seed = seed

    def __iter__(self) -> Iterator[PairedSequence]:
        for index in range(len(self._documents)):
            yield from self._pairs(index)

    def _pairs(self, index: int) -> Iterator[PairedSequence]:
        document = self._documents[index]
        random = np.random.default_rng([self._seed, index])
        start = 0
        while start < len(document):
            end = _cut(document, start, start + self._budget)
            middle = _segment_end(document, start, end, random)
            one_word = middle == end
            if one_word and end - start > self._budget // 2:  # it fills the sequence, so it is cut
                middle = start + self._budget // 2
            alone = len(self._documents) == 1
            if alone and middle == end:
                if end == len(document):  # a last lone word, and nobody to pair it with
                    return
                end = min(start + self._budget, len(document))  # the next word is cut, since it does not fit
            if not alone and (one_word or random.random() < 0.5):
                first = _Segment(document, start, middle)
                yield self._join(
                    first, self._partner(index, self._budget - (middle - start), random), IS_RANDOM
                )
                start = middle
            else:
                yield self._join(_Segment(document, start, middle), _Segment(document, middle, end), IS_NEXT)
                start = end

    def _partner(self, index: int, length: int, random: np.random.Generator) -> _Segment:
        """At most `length` pieces from a sentence start of another document."""
        other = int(random.integers(len(self._documents) - 1))
        document = self._documents[other + (other >= index)]
        starts = document.sentence_starts[:-1]
        start = int(random.choice(starts)) if len(starts) else 0
        return _Segment(document, start, _cut(document, start, start + length))

    def _join(self, first: _Segment, second: _Segment, label: int) -> PairedSequence:
        first_ids = first.document.ids[first.start : first.end]
        second_ids = second.document.ids[second.start : second.end]
        ids = np.concatenate([[self._cls], first_ids, [self._sep], second_ids, [self._sep]])
        types = np.zeros(len(ids), np.uint8)
        types[len(first_ids) + 2 :] = 1
        tasks = np.full(len(ids), NO_TASK, np.uint8)
        words = np.full(len(ids), NO_WORD, np.uint16)
        num_words = 0
        for segment, place in ((first, 1), (second, len(first_ids) + 2)):
            span = slice(segment.start, segment.end)
            target = slice(place, place + segment.end - segment.start)
            tasks[target] = segment.document.tasks[span]
            words[target], num_words = _renumber(segment.document.words[span], num_words)
        return PairedSequence(
            input_ids=ids.astype(np.int32),
            token_type_ids=types,
            task_ids=tasks,
            word_ids=words,
            next_sentence_label=label,
            doc_id=(first.document.doc_id, second.document.doc_id),
        )


def _cut(document: EncodedDocument, start: int, limit: int) -> int:
    """The last place up to `limit` where a segment that begins at `start` may end."""
    end = int(document.cuts[np.searchsorted(document.cuts, limit, side="right") - 1])
    return end if end > start else min(limit, len(document))  # a word longer than the segment is cut


def _segment_end(document: EncodedDocument, start: int, end: int, random: np.random.Generator) -> int:
    """Where the first segment ends: at a sentence start, else the word nearest to the middle, else `end`."""
    inside = document.sentence_starts
    inside = inside[np.searchsorted(inside, start, side="right") : np.searchsorted(inside, end, side="left")]
    if len(inside):
        return int(random.choice(inside))
    cuts = document.cuts
    cuts = cuts[np.searchsorted(cuts, start, side="right") : np.searchsorted(cuts, end, side="left")]
    return int(cuts[np.argmin(np.abs(cuts - (start + end) / 2))]) if len(cuts) else end


def _renumber(words: NDArray[np.int64], first: int) -> tuple[NDArray[np.uint16], int]:
    """Word ids counted from `first` within the sequence, NO_WORD for none; and the next free id."""
    _, ranks = np.unique(words, return_inverse=True)
    has_none = bool((words < 0).any())
    numbers = np.where(words < 0, NO_WORD, ranks - has_none + first)
    return numbers.astype(np.uint16), first + (int(ranks.max()) + 1 - has_none if len(words) else 0)

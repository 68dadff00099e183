"""Segment pairs with next-sentence labels, as in BERT (Devlin et al. 2019, appendix A.2)."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.schema import IS_NEXT, IS_RANDOM
from data_prep.sequences.pieces import EncodedDocument
from data_prep.sequences.sequence import EncodedSequence, Joiner, Segment, last_cut

_NUM_SPECIALS = 3  # [CLS] A [SEP] B [SEP]
_TYPES = (0, 1)


class PairBuilder:
    """Cuts documents into pairs of segments; half of the second ones come from another document.

    Segments start and end between words, mostly at sentences; a sequence is filled to its length where the
    document lasts. The pairs of a document are a pure function of the seed and its place among `documents`.

    Args:
        documents: N documents of a block.
        origins: [N] number of the document that each is a part of, ascending. A partner is of another one,
            unless all are parts of one document.
        tokenizer: has [CLS] and [SEP].
        sequence_length: most pieces of a sequence.
        seed: numbers that decide the draws.
    """

    def __init__(
        self,
        documents: Sequence[EncodedDocument],
        origins: NDArray[np.int64],
        tokenizer: Tokenizer,
        sequence_length: int,
        seed: tuple[int, ...],
    ) -> None:
        self._documents = documents
        self._first = np.searchsorted(origins, origins, side="left")
        self._last = np.searchsorted(origins, origins, side="right")
        if len(np.unique(origins)) == 1:
            self._first = np.arange(len(documents))
            self._last = self._first + 1
        self._joiner = Joiner(tokenizer)
        self._budget = sequence_length - _NUM_SPECIALS
        self._seed = seed

    def __iter__(self) -> Iterator[EncodedSequence]:
        for index in range(len(self._documents)):
            yield from self._pairs(index)

    def _pairs(self, index: int) -> Iterator[EncodedSequence]:
        document = self._documents[index]
        random = np.random.default_rng([*self._seed, index])
        start = 0
        while start < len(document):
            end = last_cut(document, start, start + self._budget)
            middle = _segment_end(document, start, end, random)
            one_word = middle == end
            if one_word and end - start > self._budget // 2:  # it fills the sequence, so it is cut
                middle = start + self._budget // 2
            alone = len(self._documents) == 1
            if alone and middle == end:
                if end == len(document):  # a last lone word, and nobody to pair it with
                    return
                end = min(start + self._budget, len(document))  # the next word is cut, since it does not fit
            first = Segment(document, start, middle)
            if not alone and (one_word or random.random() < 0.5):
                second = self._partner(index, self._budget - len(first), random)
                yield self._joiner.join((first, second), _TYPES, IS_RANDOM)
                start = middle
            else:
                yield self._joiner.join((first, Segment(document, middle, end)), _TYPES, IS_NEXT)
                start = end

    def _partner(self, index: int, length: int, random: np.random.Generator) -> Segment:
        """At most `length` pieces from a sentence start of another document."""
        first, last = int(self._first[index]), int(self._last[index])
        other = int(random.integers(len(self._documents) - (last - first)))
        document = self._documents[other if other < first else other + last - first]
        starts = document.sentence_starts[:-1]
        start = int(starts[random.integers(len(starts))]) if len(starts) else 0
        return Segment(document, start, last_cut(document, start, start + length))


def _segment_end(document: EncodedDocument, start: int, end: int, random: np.random.Generator) -> int:
    """Where the first segment ends: at a sentence start, else the word nearest to the middle, else `end`."""
    inside = _between(document.sentence_starts, start, end)
    if len(inside):
        return int(inside[random.integers(len(inside))])
    cuts = _between(document.cuts, start, end)
    return int(cuts[np.argmin(np.abs(cuts - (start + end) / 2))]) if len(cuts) else end


def _between(places: NDArray[np.int64], start: int, end: int) -> NDArray[np.int64]:
    first, last = np.searchsorted(places, start, side="right"), np.searchsorted(places, end, side="left")
    return places[first:last]

"""Sequences packed from whole documents, one after the other, without next-sentence labels.

As RoBERTa's FULL-SENTENCES (Liu et al. 2019, section 4.2), but cut between words rather than sentences.
"""

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from data_prep.schema import NO_LABEL
from data_prep.sequences.pieces import EncodedDocument
from data_prep.sequences.sequence import EncodedSequence, Joiner, Segment, last_cut

_MIN_SEGMENT = 8
"""Pieces; a sequence that has less room is left as it is, lest many begin with scraps."""


def packed_sequences(
    documents: Sequence[EncodedDocument], tokenizer: Tokenizer, sequence_length: int
) -> Iterator[EncodedSequence]:
    """Sequences filled across documents, a [SEP] after each document's segment; all token types are 0."""
    joiner = Joiner(tokenizer)
    segments: list[Segment] = []
    room = sequence_length - 1

    for document in documents:
        start = 0
        while start < len(document):
            if segments and room - 1 < min(_MIN_SEGMENT, len(document) - start):
                yield joiner.join(segments, [0] * len(segments), NO_LABEL)
                segments, room = [], sequence_length - 1
            end = last_cut(document, start, start + room - 1)
            segments.append(Segment(document, start, end))
            room -= end - start + 1
            start = end
    if segments:
        yield joiner.join(segments, [0] * len(segments), NO_LABEL)

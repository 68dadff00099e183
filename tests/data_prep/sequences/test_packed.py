"""Sequences packed across documents."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.schema import NO_LABEL, NO_TASK, NO_WORD
from data_prep.sequences.packed import packed_sequences
from tests.data_prep.sequences.test_pairs import CLS, SEP, corpus, lengths, words

corpora = st.lists(st.lists(words, min_size=1, max_size=40), max_size=6).map(corpus)


def segments(sequence):
    """The pieces of each segment."""
    ids = sequence.input_ids.tolist()
    assert ids[0] == CLS
    assert ids[-1] == SEP
    found = [[]]
    for piece in ids[1:-1]:
        if piece == SEP:
            found.append([])
        else:
            found[-1].append(piece)
    return found


@given(corpora, lengths)
@settings(deadline=None)
def test_all_pieces_of_all_documents_come_in_order(tokenizer, documents, length):
    found = [
        (name, segment)
        for sequence in packed_sequences(documents, tokenizer, length)
        for name, segment in zip(sequence.doc_id, segments(sequence), strict=True)
    ]
    assert [piece for _, segment in found for piece in segment] == [
        piece for document in documents for piece in document.ids.tolist()
    ]
    pieces_of = {document.doc_id: set(document.ids.tolist()) for document in documents}
    assert all(set(segment) <= pieces_of[name] for name, segment in found)


@given(corpora, lengths)
@settings(deadline=None)
def test_sequences_keep_their_length_and_carry_no_pair(tokenizer, documents, length):
    for sequence in packed_sequences(documents, tokenizer, length):
        assert 3 <= len(sequence) <= length
        assert sequence.next_sentence_label == NO_LABEL
        assert not sequence.token_type_ids.any()
        specials = np.isin(sequence.input_ids, [CLS, SEP])
        assert (sequence.word_ids[specials] == NO_WORD).all()
        assert (sequence.task_ids[specials] == NO_TASK).all()


@given(corpora, lengths)
@settings(deadline=None)
def test_a_word_is_cut_only_where_it_is_longer_than_a_sequence(tokenizer, documents, length):
    owner = {
        piece: (document.doc_id, word)
        for document in documents
        for piece, word in zip(document.ids.tolist(), document.words.tolist(), strict=True)
        if word >= 0
    }
    sizes = {word: list(owner.values()).count(word) for word in owner.values()}
    for before, after in pairwise(packed_sequences(documents, tokenizer, length)):
        last, first = owner.get(segments(before)[-1][-1]), owner.get(segments(after)[0][0])
        if last is not None and last == first:
            assert sizes[last] > 8  # longer than the room that ends a sequence


def test_sequences_of_ordinary_documents_are_nearly_full(tokenizer):
    documents = corpus([[(1, word % 9, word % 10 == 0) for word in range(90)] for _ in range(60)])
    sizes = [len(sequence) for sequence in packed_sequences(documents, tokenizer, 64)]
    assert np.mean(sizes) > 0.95 * 64
    assert min(sizes[:-1]) > 64 - 10

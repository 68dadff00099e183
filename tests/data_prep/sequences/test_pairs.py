"""Pairs of segments from synthetic documents, in which every piece has an id of its own."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.schema import IS_NEXT, IS_RANDOM, NO_TASK, NO_WORD
from data_prep.sequences.pairs import PairBuilder
from data_prep.sequences.pieces import EncodedDocument

NUM_SPECIALS = 5
CLS, SEP = 2, 3


def corpus(shapes):
    """A document per list of words; a word is (pieces, 0 for punctuation; task; starts a sentence)."""
    documents, first_id = [], NUM_SPECIALS
    for number, shape in enumerate(shapes):
        tasks, words, cuts, sentence_starts = [], [], [], []
        for word, (size, task, starts_sentence) in enumerate(shape):
            cuts.append(len(words))
            if size and starts_sentence:
                sentence_starts.append(len(words))
            tasks += [task] * size or [NO_TASK]
            words += [word] * size or [-1]
        documents.append(
            EncodedDocument(
                doc_id=f"d{number}",
                ids=np.arange(first_id, first_id + len(words), dtype=np.int32),
                tasks=np.array(tasks, np.uint8),
                words=np.array(words, np.int64),
                cuts=np.array([*cuts, len(words)], np.int64),
                sentence_starts=np.array([*sentence_starts, len(words)], np.int64),
            )
        )
        first_id += len(words)
    return documents


words = st.tuples(
    st.sampled_from([0, 1, 1, 1, 2, 3, 5, 9, 40]), st.sampled_from([*range(9), NO_TASK]), st.booleans()
)
corpora = st.lists(st.lists(words, min_size=1, max_size=40), min_size=2, max_size=5).map(corpus)
lengths = st.sampled_from([16, 17, 24, 64])
seeds = st.integers(0, 1_000)


def segments(sequence):
    """The pieces of both segments, after a check that specials stand around them and nowhere else."""
    ids = sequence.input_ids.tolist()
    assert all(piece >= NUM_SPECIALS or piece in (CLS, SEP) for piece in ids)
    specials = [place for place, piece in enumerate(ids) if piece < NUM_SPECIALS]
    first, second, third = specials
    assert (first, third) == (0, len(ids) - 1)
    assert [ids[place] for place in specials] == [CLS, SEP, SEP]
    return ids[1:second], ids[second + 1 : third]


def document_of(documents, segment):
    """The one document of which the segment is a run of pieces, and the places of its ends there."""
    assert segment, "a segment is empty"
    assert all(b == a + 1 for a, b in pairwise(segment))
    (document,) = [document for document in documents if segment[0] in document.ids]
    assert segment[-1] in document.ids
    return document, segment[0] - document.ids[0], segment[-1] - document.ids[0] + 1


def build(documents, tokenizer, length, seed, origins=None):
    if origins is None:
        origins = np.arange(len(documents))
    return list(PairBuilder(documents, origins, tokenizer, length, (seed,)))


@given(corpora, lengths, seeds)
@settings(deadline=None)
def test_a_sequence_is_cls_segment_sep_segment_sep_of_at_most_the_length_asked_for(
    tokenizer, documents, length, seed
):
    for sequence in build(documents, tokenizer, length, seed):
        first, second = segments(sequence)
        assert len(first) + len(second) + 3 == len(sequence) <= length
        assert sequence.token_type_ids.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
        columns = (sequence.token_type_ids, sequence.task_ids, sequence.word_ids)
        assert all(len(column) == len(sequence) for column in columns)


@given(corpora, lengths, seeds)
@settings(deadline=None)
def test_the_label_says_whether_the_second_segment_follows_the_first(tokenizer, documents, length, seed):
    for sequence in build(documents, tokenizer, length, seed):
        (first, _, end), (second, start, _) = (document_of(documents, part) for part in segments(sequence))
        assert sequence.doc_id == (first.doc_id, second.doc_id)
        assert sequence.next_sentence_label in (IS_NEXT, IS_RANDOM)
        if sequence.next_sentence_label == IS_NEXT:
            assert first is second
            assert start == end
        else:
            assert first is not second


@given(corpora, lengths, seeds)
@settings(deadline=None)
def test_pieces_keep_their_task_and_two_share_a_word_id_exactly_if_they_share_a_word(
    tokenizer, documents, length, seed
):
    origin = {
        piece: (document.doc_id, word, task)
        for document in documents
        for piece, word, task in zip(
            document.ids.tolist(), document.words.tolist(), document.tasks, strict=True
        )
    }
    for sequence in build(documents, tokenizer, length, seed):
        word_of_id = {}
        for piece, word_id, task_id in zip(
            sequence.input_ids.tolist(), sequence.word_ids.tolist(), sequence.task_ids.tolist(), strict=True
        ):
            doc_id, word, task = origin.get(piece, (None, -1, NO_TASK))
            assert task_id == task
            assert (word_id == NO_WORD) == (word == -1)
            if word >= 0:
                assert word_of_id.setdefault(word_id, (doc_id, word)) == (doc_id, word)
        assert len(set(word_of_id.values())) == len(word_of_id)


@given(corpora, lengths, seeds)
@settings(deadline=None)
def test_a_word_is_cut_only_where_it_is_longer_than_the_segment(tokenizer, documents, length, seed):
    for sequence in build(documents, tokenizer, length, seed):
        for segment in segments(sequence):
            document, start, end = document_of(documents, segment)
            if end not in document.cuts:
                assert len(set(document.words[start:end])) == 1


@given(corpora, lengths, seeds)
@settings(deadline=None)
def test_every_piece_of_a_document_stands_in_order_in_a_first_segment_or_its_continuation(
    tokenizer, documents, length, seed
):
    found = []
    for sequence in build(documents, tokenizer, length, seed):
        first, second = segments(sequence)
        found += first + second * (sequence.next_sentence_label == IS_NEXT)
    assert found == [piece for document in documents for piece in document.ids.tolist()]


@given(corpora.map(lambda documents: documents[:1]), lengths, seeds)
@settings(deadline=None)
def test_a_document_without_others_to_pair_with_loses_at_most_its_last_word(
    tokenizer, documents, length, seed
):
    sequences = build(documents, tokenizer, length, seed)
    assert all(sequence.next_sentence_label == IS_NEXT for sequence in sequences)
    found = [piece for sequence in sequences for segment in segments(sequence) for piece in segment]
    (document,) = documents
    assert found == document.ids[: len(found)].tolist()
    assert len(found) >= document.cuts[-2]


@given(corpora, lengths, seeds)
@settings(deadline=None, max_examples=25)
def test_pairs_are_a_function_of_documents_and_seed(tokenizer, documents, length, seed):
    def rows():
        for sequence in build(documents, tokenizer, length, seed):
            yield sequence.input_ids.tolist(), sequence.word_ids.tolist(), sequence.next_sentence_label

    assert list(rows()) == list(rows())


@given(corpora, lengths, seeds)
@settings(deadline=None)
def test_the_words_of_each_task_are_counted_once_each(tokenizer, documents, length, seed):
    for sequence in build(documents, tokenizer, length, seed):
        found = {
            (word, task)
            for word, task in zip(sequence.word_ids.tolist(), sequence.task_ids.tolist(), strict=True)
            if word != NO_WORD and task != NO_TASK
        }
        expected = [sum(task == wanted for _, task in found) for wanted in range(9)]
        assert sequence.task_words(9).tolist() == expected


@pytest.fixture(scope="module")
def long_documents():
    """Forty documents of ordinary shape: 300 words each, a sentence every ten."""
    return corpus(
        [[(1 + (word % 4 == 0), word % 9, word % 10 == 0) for word in range(300)] for _ in range(40)]
    )


def test_about_half_of_the_second_segments_are_random(tokenizer, long_documents):
    labels = [row.next_sentence_label for row in build(long_documents, tokenizer, 64, seed=1)]
    assert len(labels) > 300
    assert 0.4 < np.mean(labels) < 0.6


def test_sequences_of_long_documents_are_nearly_full(tokenizer, long_documents):
    sizes = [len(row) for row in build(long_documents, tokenizer, 64, seed=1)]
    assert np.mean(sizes) > 0.9 * 64


def test_second_segments_start_mostly_at_sentences(tokenizer, long_documents):
    at_sentence = []
    for sequence in build(long_documents, tokenizer, 64, seed=1):
        document, start, _ = document_of(long_documents, segments(sequence)[1])
        at_sentence.append(start in document.sentence_starts)
    assert np.mean(at_sentence) > 0.9


def test_another_seed_gives_other_pairs(tokenizer, long_documents):
    first, second = (
        [row.input_ids.tolist() for row in build(long_documents, tokenizer, 64, seed)] for seed in (1, 2)
    )
    assert first != second


def test_a_partner_comes_from_another_document_not_from_another_part_of_it(tokenizer, long_documents):
    origins = np.repeat(np.arange(10), 4)
    for sequence in build(long_documents, tokenizer, 64, 1, origins):
        first, second = (int(name.removeprefix("d")) // 4 for name in sequence.doc_id)
        assert (first != second) == (sequence.next_sentence_label == IS_RANDOM)


def test_parts_of_one_document_pair_with_each_other_where_there_is_no_other_one(tokenizer, long_documents):
    sequences = build(long_documents, tokenizer, 64, 1, np.zeros(40, int))
    labels = [sequence.next_sentence_label for sequence in sequences]
    assert 0.4 < np.mean(labels) < 0.6
    assert all(len(set(row.doc_id)) == 1 + row.next_sentence_label for row in sequences)


def test_no_documents_give_no_sequences(tokenizer):
    assert build([], tokenizer, 64, 0) == []

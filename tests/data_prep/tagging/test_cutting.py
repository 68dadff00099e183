"""Bounds on what the tagger is given at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.documents import Document
from data_prep.tagging.cutting import MAX_TEXT, MAX_WORD, cut_text

SENTENCE = "It was never ending, or so it seemed. "


@given(st.lists(st.text("a.( 中。\x00e\u0301", max_size=400), max_size=6).map(" ".join))
def test_pieces_are_short_and_put_together_the_text(text):
    text = " ".join(text.split())
    pieces = list(cut_text(text))
    assert "".join(pieces) == text
    assert max(len(word) for piece in pieces for word in [*piece.split(), ""]) <= MAX_WORD


def test_an_ordinary_text_is_not_cut():
    assert list(cut_text(SENTENCE * 100)) == [SENTENCE * 100]
    assert list(cut_text("x" * MAX_WORD)) == ["x" * MAX_WORD]
    assert list(cut_text("")) == [""]


def test_a_long_text_is_cut_where_a_sentence_ends():
    text = (SENTENCE * 4_000).strip()
    pieces = list(cut_text(text))
    assert len(pieces) == 4
    assert all(len(piece) <= MAX_TEXT and piece.endswith("seemed.") for piece in pieces)
    assert " ".join(pieces) == text


def test_without_sentences_it_is_cut_at_a_space():
    text = ("word " * 20_000).strip()
    pieces = list(cut_text(text))
    assert all(len(piece) <= MAX_TEXT and piece.endswith("word") for piece in pieces)
    assert " ".join(pieces) == text


def test_a_long_word_is_cut_inside_and_its_neighbours_stay():
    pieces = list(cut_text(f"before {'x' * 300} after"))
    assert [piece.strip("x") for piece in pieces] == ["before ", "", " after"]
    assert "".join(pieces) == f"before {'x' * 300} after"


@pytest.mark.parametrize("part", ["a", "(", "...", "a.a.", "😀", "http://a/", "e\u0301", "$", "'s"])
def test_a_word_of_200_000_characters_is_tagged_in_seconds(tagger, part):
    text = part * (200_000 // len(part))
    ((_, paragraphs),) = tagger.tag([Document("", text)])
    assert "".join(paragraph.text for paragraph in paragraphs) == text

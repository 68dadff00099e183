"""Long texts in parts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.cutting import cut_document
from data_prep.corpus.documents import Document


def parts(text, limit, pieces=None):
    return list(cut_document("d", pieces or [text], limit))


def test_a_text_within_the_limit_is_one_document_with_a_plain_name_and_its_white_space():
    assert parts(" One.\n\nTwo. ", 100) == [Document("d", " One.\n\nTwo. ")]


def test_parts_are_numbered_and_all_but_the_first_continue_the_one_before():
    assert parts("aaaa bbbb cccc", 6) == [
        Document("d#1", "aaaa"),
        Document("d#2", "bbbb", continues=True),
        Document("d#3", "cccc", continues=True),
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("aaaaaaaa\n\nb. ccc ddddd", "aaaaaaaa"),
        ("aaaaaaaa\r\n\r\nb. ccc ddddd", "aaaaaaaa"),
        ("aaaaaaaa\r\rb. ccc ddddd", "aaaaaaaa"),
        ("aaaaaaaa\n \t\nb. ccc ddddd", "aaaaaaaa"),
        ("aaaaaa\r\nbbb. ccc ddddd", "aaaaaa\r\nbbb."),
        ("aaaaaa bb.” ccc ddddddd", "aaaaaa bb.”"),
        ("ああああああああ。いい いいいいい", "ああああああああ。"),
        ("aaaaaaaaaa bb ccccccc", "aaaaaaaaaa bb"),
        ("aaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaa"),
        ("a\n\naaaaaaaaa bbbbbbbbbbbb", "a\n\naaaaaaaaa"),
    ],
)
def test_a_part_ends_at_a_paragraph_else_a_sentence_else_white_space_in_its_second_half(text, first):
    assert parts(text, 15)[0].text == first


def test_white_space_alone_is_no_document_however_much():
    assert parts("", 10) == parts(" \n" * 50, 10) == []


TEXT = st.text(st.sampled_from('ab.!"。 \n\r\t\u2028\u00a0é😀'), max_size=120)


@given(TEXT, st.integers(2, 40))
def test_parts_keep_the_limit_and_joined_they_are_the_text_but_for_white_space(text, limit):
    made = parts(text, limit)
    assert all(0 < len(part.text) <= limit for part in made)
    assert [part.continues for part in made] == [index > 0 for index in range(len(made))]
    assert "".join("".join(part.text for part in made).split()) == "".join(text.split())


@given(TEXT, st.integers(2, 40), st.lists(st.integers(0, 120)))
def test_where_a_text_is_cut_does_not_depend_on_how_it_arrives(text, limit, places):
    bounds = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
    assert parts(text, limit, pieces) == parts(text, limit)

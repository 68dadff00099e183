"""Rows of .csv and .tsv files."""

import pytest

from data_prep.corpus import delimited
from data_prep.corpus.documents import Document


def test_each_row_is_a_document_named_by_its_id_or_its_row(read):
    content = b'id,text,n\na,"One, ""two"".\nThree.",1\n\n,Four.,2\n'
    assert read("a.csv", content) == [Document("a", 'One, "two".\nThree.'), Document("a.csv:2", "Four.")]


def test_columns_of_a_tsv_file_stand_between_tabs(read):
    assert read("a.tsv", b"text\tid\nOne, two.\tx\n") == [Document("x", "One, two.")]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_rows_end_in_any_way_and_a_byte_order_mark_is_no_text(read, newline):
    content = b"\xef\xbb\xbftext,id\nOne.,1\nTwo.,2".replace(b"\n", newline)
    assert read("a.csv", content) == [Document("1", "One."), Document("2", "Two.")]


def test_a_file_without_the_column_is_rejected_once_with_its_columns(read):
    (rejected,) = read("a.csv", b"id,body\n1,One.\n2,Two.\n")
    assert rejected.kind == "no_text_field"
    assert (
        "the record has: id, body; name the field with --text-field; its first row must name"
        in rejected.reason
    )


def test_an_empty_file_is_rejected_once(read):
    assert [item.kind for item in read("a.csv", b"")] == ["no_text_field"]


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        (b"1", "bad_row", "1 columns, the header has 2"),
        (b"1,Two.,3", "bad_row", "3 columns, the header has 2"),
        (b"1,  ", "empty", "white space"),
        (b"1,", "empty", "white space"),
        (b"1,a\xffb", "not_utf8", "not UTF-8 (a byte 0xff)"),
    ],
)
def test_a_bad_row_is_rejected_and_the_others_are_read(read, tmp_path, row, kind, reason):
    first, rejected, last = read("a.csv", b"id,text\nx,One.\n" + row + b"\ny,Last.\n")
    assert (first, last) == (Document("x", "One."), Document("y", "Last."))
    assert (rejected.where, rejected.kind) == (f"{tmp_path / 'a.csv'}, row 2", kind)
    assert reason in rejected.reason


def test_a_quote_that_never_closes_is_named(read, tmp_path):
    first, rejected = read("a.csv", b'id,text\nx,One.\ny,"Two.\nz,Three.\n')
    assert first == Document("x", "One.")
    assert (rejected.where, rejected.kind) == (f"{tmp_path / 'a.csv'}, row 2", "bad_row")
    assert "never closes" in rejected.reason


@pytest.mark.parametrize("content", [b'x,"' + b"a\n" * 100, b"x," + b"a" * 200])
def test_a_cell_beyond_the_bound_ends_the_reading(read, monkeypatch, content):
    monkeypatch.setattr(delimited, "MAX_CELL", 100)
    first, rejected = read("a.csv", b"id,text\na,One.\n" + content)
    assert first == Document("a", "One.")
    assert rejected.kind == "too_long"


def test_a_nul_is_text(read):
    assert read("a.csv", b"text\na\0b\n") == [Document("a.csv:1", "a\0b")]

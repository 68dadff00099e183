"""A .txt file is one document."""

import pytest

from data_prep.corpus.documents import Document, Rejected

BOM = b"\xef\xbb\xbf"


def test_a_file_is_one_document_named_after_the_file(read):
    assert read("a.txt", "Naïve\n\ncafé".encode()) == [Document("a.txt", "Naïve\n\ncafé")]


def test_a_byte_order_mark_is_no_text(read):
    assert read("a.txt", BOM + b"One.") == [Document("a.txt", "One.")]


def test_control_characters_and_line_ends_of_all_kinds_stay(read):
    text = "a\0b\r\nc\rd\ne\u2028f\x1b[0m\x85"
    assert read("a.txt", text.encode()) == [Document("a.txt", text)]


@pytest.mark.parametrize("content", [b"", b" \n\r\n\t", BOM, "\u00a0\u2028".encode()])
def test_an_empty_file_is_rejected(read, tmp_path, content):
    assert read("a.txt", content) == [
        Rejected(str(tmp_path / "a.txt"), "empty", "a text of white space alone")
    ]


@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"abc\xff", "byte 3: 0xff"),
        ("é".encode("latin1"), "byte 0: 0xe9"),
        (BOM + b"abc\xfe", "byte 6: 0xfe"),
        (b"abc\xc3", "byte 3: 0xc3"),
        (b"a" * ((1 << 20) - 1) + b"\xc3a" + b"b" * 100, f"byte {(1 << 20) - 1}: 0xc3"),
    ],
)
def test_a_file_that_is_not_utf8_is_rejected_with_its_first_wrong_byte(read, content, byte):
    (rejected,) = read("a.txt", content)
    assert rejected.kind == "not_utf8"
    assert f"({byte})" in rejected.reason
    assert "iconv -f latin1" in rejected.reason


def test_a_long_file_that_is_not_utf8_at_its_end_yields_no_part(read):
    (rejected,) = read("a.txt", b"One two. " * 100 + b"\xff", max_document=100)
    assert rejected.kind == "not_utf8"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Text.".encode("utf-16"), "is UTF-16, not UTF-8 text; convert it with iconv -f UTF-16 -t UTF-8"),
        ("Text.".encode("utf-32"), "is UTF-32, not UTF-8 text; convert it with iconv -f UTF-32 -t UTF-8"),
        (("Text. " * 50).encode("utf-16-le"), "is binary, or UTF-16 without a byte order mark"),
        (b"%PDF-1.7 ...", "is a PDF file"),
        (b"PK\x03\x04...", "is a zip archive"),
        (b"\x1f\x8b\x08....", "is a gzip file, not UTF-8 text; give its name the suffix .gz"),
        (bytes(1000), "is binary"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_file_that_is_something_else_is_rejected_once_with_what_it_is(read, name, content, reason):
    (rejected,) = read(name, content)
    assert rejected.kind == "unreadable"
    assert reason in rejected.reason


def test_a_long_file_comes_in_parts(read):
    made = read("a.txt", ("One two. " * 100).encode(), max_document=100)
    assert [part.doc_id for part in made] == [f"a.txt#{number}" for number in range(1, len(made) + 1)]
    assert " ".join(part.text for part in made) == "One two. " * 100

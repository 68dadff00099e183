"""Documents from files, and what a user hears about files that cannot be read."""

import gzip
import json

import pytest

from data_prep.corpus.documents import Corpus, Document
from data_prep.errors import UserError

BOM = b"\xef\xbb\xbf"
LINES = b'{"id": "a", "text": "One."}\n\n{"text": "Two."}\n'


def read(path, content, **fields):
    path.write_bytes(content)
    return list(Corpus((path,), **fields))


def mistake(path, content, **fields):
    """What a user is told about a file: one line that opens with the file and ends with a remedy."""
    with pytest.raises(UserError) as error:
        read(path, content, **fields)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "; " in message
    assert len(message.splitlines()) == 1
    return message


def test_a_txt_file_is_one_document_named_after_the_file(tmp_path):
    assert read(tmp_path / "a.txt", "Naïve\n\ncafé".encode()) == [Document("a.txt", "Naïve\n\ncafé")]


def test_each_line_of_a_jsonl_file_is_a_document_named_by_its_id_or_its_line(tmp_path):
    assert read(tmp_path / "a.jsonl", LINES) == [Document("a", "One."), Document("a.jsonl:3", "Two.")]


def test_an_id_of_null_is_no_id(tmp_path):
    lines = b'{"id": null, "text": "One."}\n{"id": 7, "text": "Two."}'
    assert [document.doc_id for document in read(tmp_path / "a.jsonl", lines)] == ["a.jsonl:1", "7"]


def test_the_fields_of_a_jsonl_line_can_be_named(tmp_path):
    line = b'{"name": "n", "body": "Body.", "text": "Text.", "id": "i"}'
    documents = read(tmp_path / "a.jsonl", line, text_field="body", id_field="name")
    assert documents == [Document("n", "Body.")]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_gzipped_file_reads_like_the_plain_one(tmp_path, name):
    plain = read(tmp_path / name, LINES)
    zipped = read(tmp_path / f"{name}.gz", gzip.compress(LINES))
    assert [document.text for document in zipped] == [document.text for document in plain]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    assert read(tmp_path / name, BOM + LINES) == read(tmp_path / name, LINES)


def test_files_are_read_in_the_order_given_and_anew_at_every_pass(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name)
    corpus = Corpus((tmp_path / "b.txt", tmp_path / "a.txt"))
    assert [document.text for document in corpus] == [document.text for document in corpus] == ["b", "a"]


def test_a_document_falls_into_paragraphs_at_blank_lines_and_loses_its_hard_line_breaks():
    text = "\n\n One  line\r\nand the next.\n \t\nAnother\u00a0one.\n\n\n"
    assert Document("", text).paragraphs == ["One line and the next.", "Another one."]


def test_half_a_surrogate_pair_in_a_jsonl_line_becomes_a_question_mark(tmp_path):
    (document,) = read(tmp_path / "a.jsonl", json.dumps({"id": "x\ud800", "text": "A\udc00."}).encode())
    assert document == Document("x?", "A?.")


def test_sources_hold_size_and_hash_of_the_files(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    (source,) = Corpus((path,)).sources()
    assert (source.path, source.bytes) == (str(path), 3)
    assert source.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_missing_file_is_named_with_a_remedy(tmp_path):
    with pytest.raises(UserError, match=r"missing\.txt: no such file; "):
        Corpus((tmp_path / "missing.txt",))


def test_a_folder_is_refused_with_the_files_to_name_instead(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; name its files, for example .*/\*\.txt"):
        Corpus((tmp_path,))


@pytest.mark.parametrize("name", ["a.csv", "a", "a.csv.gz", "a.gz", "a.JSON"])
def test_a_file_of_unknown_kind_is_refused_with_the_kinds_that_are_known(tmp_path, name):
    assert "give .txt or .jsonl, plain or .gz" in mistake(tmp_path / name, b"")


@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"abc\xff", "byte 3: 0xff"),
        ("é".encode("latin1"), "byte 0: 0xe9"),
        (BOM + b"abc\xfe", "byte 6: 0xfe"),
    ],
)
def test_text_that_is_not_utf8_is_refused_with_its_first_wrong_byte(tmp_path, content, byte):
    message = mistake(tmp_path / "a.txt", content)
    assert f"not UTF-8 ({byte})" in message
    assert "iconv" in message


def test_a_jsonl_line_that_is_not_utf8_is_named(tmp_path):
    assert ", line 4: not UTF-8 (byte 10: 0xff)" in mistake(tmp_path / "a.jsonl", LINES + b'{"text": "\xff"}')


@pytest.mark.parametrize("line", [b"{", b'{"text": "x"} {"text": "y"}', b"9" * 5_000, b"[" * 100_000])
def test_a_line_that_is_not_json_is_named(tmp_path, line):
    message = mistake(tmp_path / "a.jsonl", LINES + line)
    assert ", line 4: not JSON" in message
    assert "each line must be one JSON object" in message


@pytest.mark.parametrize("line", [b"[]", b'"text"', b"1", b"null"])
def test_a_line_that_is_not_a_json_object_is_named(tmp_path, line):
    message = mistake(tmp_path / "a.jsonl", LINES + line)
    assert ", line 4: " in message
    assert "each line must be one JSON object" in message


@pytest.mark.parametrize("line", [b'{"body": "x", "id": 1}', b'{"text": 5, "body": "", "id": 1}'])
def test_a_line_without_text_is_named_with_the_fields_that_it_has(tmp_path, line):
    message = mistake(tmp_path / "a.jsonl", LINES + line)
    assert ', line 4: no text in field "text"; name the field with --text-field' in message
    assert "body, id" in message


def _bits_flipped(content):
    middle = len(content) // 2
    return (
        content[:middle]
        + bytes(byte ^ 0xFF for byte in content[middle : middle + 40])
        + content[middle + 40 :]
    )


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: LINES,
        lambda content: content[:-20],
        _bits_flipped,
        lambda content: content[:-8] + b"12345678",
    ],
    ids=["not gzip", "truncated", "bits flipped", "wrong checksum"],
)
def test_a_damaged_gzip_file_is_named(tmp_path, name, damage):
    lines = "".join(f'{{"text": "Sentence {number} of {number**3}."}}\n' for number in range(500))
    assert "damaged gzip file" in mistake(tmp_path / name, damage(gzip.compress(lines.encode())))

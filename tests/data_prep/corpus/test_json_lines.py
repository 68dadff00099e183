"""An object a line; lines too long to be held are read like the others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.inputs import find_sources
from data_prep.corpus.json_lines import LineBounds, read_json_lines
from data_prep.corpus.records import Wanted

LINES = b'{"id": "a", "text": "One."}\n\n{"text": "Two."}\n'


def test_each_line_is_a_document_named_by_its_id_or_its_line(read):
    assert read("a.jsonl", LINES) == [Document("a", "One."), Document("a.jsonl:3", "Two.")]


@pytest.mark.parametrize("newline", [b"\r\n", b"\r", b"\n"])
def test_lines_end_in_any_way(read, newline):
    expected = [Document("a", "One."), Document("a.jsonl:3", "Two.")]
    assert read("a.jsonl", LINES.replace(b"\n", newline)) == expected


def test_an_id_of_null_or_nothing_is_no_id_and_a_number_is_one(read):
    lines = b'{"id": null, "text": "One."}\n{"id": 7, "text": "Two."}\n{"id": "", "text": "Three."}'
    assert [document.doc_id for document in read("a.jsonl", lines)] == ["a.jsonl:1", "7", "a.jsonl:3"]


def test_the_fields_can_be_named(read):
    line = b'{"name": "n", "body": "Body.", "text": "Text.", "id": "i"}'
    assert read("a.jsonl", line, text_field="body", id_field="name") == [Document("n", "Body.")]


def test_half_a_surrogate_pair_becomes_a_question_mark(read):
    line = json.dumps({"id": "x\ud800", "text": "A\udc00."}).encode()
    assert read("a.jsonl", line) == [Document("x?", "A?.")]


def test_line_separators_and_control_characters_inside_a_text_stay(read):
    text = "a\u2028b\u2029c\x85d\0e\x0bf\tg"
    escaped = json.dumps({"text": text}, ensure_ascii=False).encode()
    raw = f'{{"text": "{text}"}}'.encode()
    assert read("a.jsonl", escaped) == read("a.jsonl", raw) == [Document("a.jsonl:1", text)]


def test_a_byte_order_mark_is_no_text(read):
    assert read("a.jsonl", b"\xef\xbb\xbf" + LINES) == read("a.jsonl", LINES)


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        (b"{", "not_json", "not JSON (Expecting property name"),
        (b'{"text": "x"} {"text": "y"}', "not_json", "not JSON (Extra data)"),
        (b"[" * 100_000, "not_json", "not JSON (maximum recursion depth exceeded"),
        (b"9" * 5_000, "not_json", "not JSON ("),
        (b"[]", "not_json", "a JSON list; each line must be one JSON object"),
        (b'"text"', "not_json", "a JSON str"),
        (b"null", "not_json", "a JSON NoneType"),
        (b'{"text": "\xff"}', "not_utf8", "not UTF-8 (byte 10: 0xff)"),
        (b'{"text": " \\n"}', "empty", "white space alone"),
        (
            b'{"id": 1, "body": "x"}',
            "no_text_field",
            'no text in field "text"; the record has: id, body; name the field with --text-field',
        ),
        (b'{"id": 1, "text": null}', "no_text_field", "holds null, no text"),
        (b"{}", "no_text_field", "the record has: no fields"),
    ],
)
def test_a_line_without_a_document_is_rejected_and_the_others_are_read(read, tmp_path, line, kind, reason):
    *documents, rejected, last = read("a.jsonl", LINES + line + b'\n{"text": "Last."}')
    assert documents == [Document("a", "One."), Document("a.jsonl:3", "Two.")]
    assert (rejected.where, rejected.kind) == (f"{tmp_path / 'a.jsonl'}, line 4", kind)
    assert reason in rejected.reason
    assert last == Document("a.jsonl:5", "Last.")


def outcomes(path, bounds, **wanted):
    (source,) = find_sources([str(path)]).sources
    made = read_json_lines(source, Wanted(**wanted), bounds)
    return [(item.where, item.kind) if isinstance(item, Rejected) else item for item in made]


CHARACTERS = st.sampled_from('ab"\\/{}[]:,\n\r\t\0 é漢😀\ud83d\udc00\u2028')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(CHARACTERS, max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS), inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.fixed_dictionaries(
    {}, optional={"text": st.text(CHARACTERS, max_size=200) | VALUES, "id": VALUES, "more": VALUES}
)
LINE = st.one_of(
    st.builds(lambda record, plain: json.dumps(record, ensure_ascii=plain), RECORDS, st.booleans()),
    st.builds(
        lambda record, start, end: json.dumps(record)[start : end or None],
        RECORDS,
        st.integers(0, 5),
        st.integers(-5, 0),
    ),
    st.text('{}[]":,\\ua0dD8 tex', max_size=60),
).map(lambda line: line.encode("utf-8", "replace"))


@given(st.lists(LINE | st.binary(max_size=20), max_size=6), st.integers(1, 40), st.integers(10, 60))
def test_a_line_too_long_to_be_held_reads_like_one_that_is_held(tmp_path_factory, lines, string, limit):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    whole = outcomes(path, LineBounds(1 << 20, 1 << 20), max_document=limit)
    in_pieces = outcomes(path, LineBounds(32, string), max_document=limit)
    too_long = [item[0] for item in in_pieces if isinstance(item, tuple) and item[1] == "too_long"]
    if not too_long:
        assert in_pieces == whole
    assert outcomes(path, LineBounds(1 << 9, 1), max_document=limit) == whole


@pytest.mark.parametrize("escaped", [True, False])
def test_a_long_text_is_read_the_same_in_pieces(tmp_path, escaped):
    text = 'é😀\\"\\\\ \ud83d漢字 a\n' * 120_000
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text, "id": "x"}, ensure_ascii=escaped), json.dumps({"text": "Last."})]
    path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
    whole, in_pieces = (
        outcomes(path, bounds) for bounds in (LineBounds(1 << 30), LineBounds(1 << 16, 1 << 10))
    )
    assert whole == in_pieces
    assert [item.doc_id for item in whole] == ["x", "a.jsonl:2"]


def test_a_line_that_is_long_without_its_long_strings_is_rejected(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x", "ids": list(range(100))}) + '\n{"text": "Last."}')
    rejected, last = outcomes(path, LineBounds(64, 16))
    assert rejected == (f"{path}, line 1", "too_long")
    assert last == Document("a.jsonl:2", "Last.")

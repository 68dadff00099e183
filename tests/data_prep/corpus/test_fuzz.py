"""Nasty text: a good document comes out once and intact, a bad one is rejected once, nothing raises."""

import csv
import gzip
import io
import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.corpus.cleaning import Cleaner, CleaningSettings, Dropped
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import find_sources

NASTY = st.one_of(
    st.text(max_size=50),
    st.text(st.sampled_from('\0\x01\x07\x1b\x7f\x85\ufeff\u200f\u202e\r\n\t \u2028",{}[]\\'), max_size=30),
    st.text(st.sampled_from("אבגدهو \u200f\u202b.!"), max_size=30),
    st.text(st.sampled_from(".,;:!?-—…'\"()"), max_size=30),
    st.sampled_from(["", " ", "\n\n", "\ufeff", "x" * 5_000, "漢" * 3_000, "a\r\n\r\nb\rc\nd", "Ã©" * 40]),
)
GOOD = NASTY.filter(lambda text: text.strip())
BAD_LINES = st.one_of(
    st.sampled_from(
        [b"[]", b"null", b"1", b'"text"', b"{", b"}", b"{}", b'{"text": 1}', b'{"text": ""}', b"[" * 5_000]
    ),
    st.sampled_from(
        [b'{"text": " \\n\\t"}', b'{"text": null}', b'{"body": "x"}', b'{"text": "\xff"}', b"\xc3", b"x"]
    ),
    st.sampled_from(
        [b'{"text": "\\ud800"} x', b'{"text": "\\u12"}', b'{"text": "x"', b'{"text": "\\x"}', b"\0"]
    ),
)
WITHOUT_HEALTH_CHECK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def made(path, name, content, **options):
    (path / name).write_bytes(content)
    (source,) = find_sources([str(path / name)]).sources
    first = list(read_source(source, **options))
    assert list(read_source(source, **options)) == first
    return first


def documents(items):
    return [item for item in items if isinstance(item, Document)]


def rejections(items):
    return [item for item in items if isinstance(item, Rejected)]


@given(st.lists(GOOD | BAD_LINES, max_size=8), st.booleans(), st.booleans())
@WITHOUT_HEALTH_CHECK
def test_json_lines(path, lines, plain, compressed):
    encoded = [
        line if isinstance(line, bytes) else json.dumps({"text": line}, ensure_ascii=plain).encode()
        for line in lines
    ]
    content = b"\n".join(encoded)
    items = made(path, "a.jsonl.gz", gzip.compress(content)) if compressed else made(path, "a.jsonl", content)
    assert [item.text for item in documents(items)] == [line for line in lines if isinstance(line, str)]
    assert len(rejections(items)) == sum(isinstance(line, bytes) for line in lines)


@given(NASTY)
@WITHOUT_HEALTH_CHECK
def test_plain_text(path, text):
    items = made(path, "a.txt", text.encode())
    text = text.removeprefix("\ufeff")
    if text.strip():
        assert [item.text for item in documents(items)] == [text] or items[0].kind == "unreadable"
    assert len(items) == 1


@given(st.binary(max_size=200))
@WITHOUT_HEALTH_CHECK
def test_bytes_of_any_kind(path, content):
    for name in (
        "a.txt",
        "a.jsonl",
        "a.csv",
        "a.tsv",
        "a.parquet",
        "a.arrow",
        "a.txt.gz",
        "a.jsonl.zst",
        "a.csv.xz",
    ):
        items = made(path, name, content)
        assert all(item.text.strip() for item in documents(items))
    assert len(made(path, "a.txt", content)) == 1


@given(st.lists(st.tuples(NASTY, NASTY), max_size=6))
@WITHOUT_HEALTH_CHECK
def test_rows(path, rows):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("id", "text"), *rows])
    items = made(path, "a.csv", buffer.getvalue().encode())
    expected = [text for _, text in rows if text.strip()]
    assert [item.text for item in documents(items)] == expected
    assert len(items) == len(rows)
    table = pa.table({"text": pa.array([text for _, text in rows], pa.string())})
    with pa.ipc.new_stream(sink := io.BytesIO(), table.schema) as writer:
        writer.write_table(table)
    items = made(path, "a.arrow", sink.getvalue())
    assert [item.text for item in documents(items)] == expected
    assert len(items) == len(rows)


@given(st.lists(GOOD, min_size=1, max_size=8), st.data())
@WITHOUT_HEALTH_CHECK
def test_a_truncated_gzip_file(path, texts, data):
    content = gzip.compress("\n".join(json.dumps({"text": text}) for text in texts).encode())
    end = data.draw(st.integers(1, len(content) - 1))
    *before, rest = made(path, "a.jsonl.gz", content[:end])
    assert rest.kind == "unreadable"
    assert [item.text for item in before] == texts[: len(before)]


@given(GOOD, st.integers(8, 60))
@WITHOUT_HEALTH_CHECK
def test_parts_of_long_documents(path, text, limit):
    content = json.dumps({"text": text, "id": "d"}).encode()
    parts = made(path, "a.jsonl", content, max_document=limit)
    assert all(len(part.text) <= limit for part in parts)
    assert "".join("".join(part.text for part in parts).split()) == "".join(text.split())


@given(NASTY | st.text(st.characters(exclude_categories=())))
@WITHOUT_HEALTH_CHECK
def test_cleaning(text):
    cleaned = Cleaner(CleaningSettings())(Document("d", text))
    if isinstance(cleaned, Dropped):
        assert cleaned.kind == "too_short"
    else:
        assert cleaned.text.split()
        assert not set(map(ord, cleaned.text)) & {0, 7, 27, 13, 0xFEFF, *range(0xD800, 0xE000)}
        assert Cleaner(CleaningSettings())(cleaned) is cleaned


def test_a_word_of_a_megabyte(path):
    word = "x" * 1_000_000
    assert made(path, "a.jsonl", json.dumps({"text": word}).encode()) == [Document("a.jsonl:1", word)]
    assert Cleaner(CleaningSettings(language="en"))(Document("d", word)) is not None
    parts = made(path, "a.txt", b"x" * 5_000_000)
    assert [len(part.text) for part in parts] == [2_000_000, 2_000_000, 1_000_000]

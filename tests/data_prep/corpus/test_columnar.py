"""Rows of Parquet and Arrow files."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.corpus.documents import Document

TABLE = pa.table({"n": [1, 2, 3], "id": ["a", None, "c"], "text": ["One.", "Twö.", "Three."]})
DOCUMENTS = ["One.", "Twö.", "Three."]


def parquet(table, **options):
    pq.write_table(table, sink := io.BytesIO(), **options)
    return sink.getvalue()


def stream(table, compression=None):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink := io.BytesIO(), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


def arrow_file(table):
    with pa.ipc.new_file(sink := io.BytesIO(), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", parquet(TABLE)),
        ("a.parquet", parquet(TABLE, row_group_size=1)),
        ("a.arrow", stream(TABLE)),
        ("a.arrow", stream(TABLE, "zstd")),
        ("a.arrow", arrow_file(TABLE)),
    ],
    ids=["parquet", "row groups", "stream", "compressed stream", "file"],
)
def test_each_row_is_a_document_named_by_its_id_or_its_row(read, name, content):
    assert read(name, content) == [
        Document("a", "One."),
        Document(f"{name}:2", "Twö."),
        Document("c", "Three."),
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
def test_text_of_every_type_is_read(read, kind):
    table = pa.table({"text": pa.array(DOCUMENTS).cast(kind)})
    assert [document.text for document in read("a.arrow", stream(table))] == DOCUMENTS
    assert [document.text for document in read("a.parquet", parquet(table))] == DOCUMENTS


def test_a_numeric_id_is_a_name(read):
    assert [document.doc_id for document in read("a.parquet", parquet(TABLE), id_field="n")] == list("123")


@pytest.mark.parametrize(("name", "write"), [("a.parquet", parquet), ("a.arrow", stream)])
def test_a_file_without_the_column_is_rejected_once_with_its_columns(read, name, write):
    (rejected,) = read(name, write(TABLE), text_field="body")
    assert rejected.kind == "no_text_field"
    assert "the record has: n, id, text; name the field with --text-field" in rejected.reason


def test_a_column_that_is_no_text_is_rejected_once_with_its_type(read):
    (rejected,) = read("a.parquet", parquet(TABLE), text_field="n")
    assert rejected.kind == "no_text_field"
    assert 'column "n" is of type int64' in rejected.reason


def test_cells_without_text_are_rejected_one_by_one(read, tmp_path):
    cells = pa.array([b"One.", None, b" ", b"\xff", b"Last."], pa.binary())
    for table in (pa.table({"text": cells}), pa.table({"text": cells.view(pa.string())})):
        first, null, empty, wrong, last = read("a.parquet", parquet(table))
        assert (first.text, last.text) == ("One.", "Last.")
        assert [item.kind for item in (null, empty, wrong)] == ["no_text_field", "empty", "not_utf8"]
        assert null.where == f"{tmp_path / 'a.parquet'}, row 2"


@pytest.mark.parametrize(
    "content", [b"", b"no such file", b"PAR1" * 10, parquet(TABLE)[:-9], stream(TABLE)[:30]]
)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_file_of_another_kind_or_a_truncated_one_is_rejected_once(read, name, content):
    assert [item.kind for item in read(name, content)] == ["unreadable"]


def test_batches_before_the_damage_are_read(read):
    table = pa.table({"text": [f"Text {number}." for number in range(10)]})
    content = stream(table)
    *documents, rejected = read("a.arrow", content[: len(content) // 2])
    assert rejected.kind == "unreadable"
    assert 0 < len(documents) < 10
    assert [document.text for document in documents] == table["text"].to_pylist()[: len(documents)]

"""Documents from Parquet and Arrow files: a row each, read in record batches.

Held at a time: of a Parquet file a batch of about BATCH_BYTES and the page it comes from, whose size is the
writer's choice (pyarrow's pages hold up to 1,024 rows, or 1 MB if that is more); of an Arrow file about
BATCH_BYTES, or, where it is compressed, a record batch as it was written. A cell is held whole.
An Arrow stream cut off between two record batches reads like a whole one, since its end mark is optional.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.corpus.compression import DamagedFileError
from data_prep.corpus.decoding import NotUtf8Error, decode
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.inputs import Source
from data_prep.corpus.records import Wanted, document_of, no_text

BATCH_BYTES = 1 << 23
_MAX_BATCH_ROWS = 1024
_READ_BUFFER = 1 << 20
_TEXT_TYPES = {
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view()),
}
_ARROW_FILE_MAGIC = b"ARROW1"


def read_columnar(source: Source, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The documents of a .parquet or .arrow file, named by their id or by `file:row`.

    Raises:
        DamagedFileError: the file is not what its suffix says, or is damaged from here on.
    """
    number = 0
    for batch in record_batches(source, [wanted.text_field, wanted.id_field]):
        if isinstance(batch, pa.Schema):
            if reason := _no_text(batch, wanted.text_field):
                yield Rejected(source.name, "no_text_field", reason)
                return
            continue
        texts = _cells(batch, wanted.text_field)
        ids = _cells(batch, wanted.id_field)
        for text, doc_id in zip(texts, ids, strict=True):
            number += 1
            where = f"{source.name}, row {number}"
            try:
                record = {
                    wanted.id_field: decode(doc_id) if isinstance(doc_id, bytes) else doc_id,
                    wanted.text_field: decode(text) if isinstance(text, bytes) else None,
                }
            except NotUtf8Error as error:
                yield Rejected(where, "not_utf8", str(error))
            else:
                yield from document_of(record, where, f"{source.label}:{number}", wanted)


def record_batches(source: Source, columns: list[str] | None) -> Iterator[pa.Schema | pa.RecordBatch]:
    """First the schema of the whole file, then its batches with those of `columns` that it has (None: all).

    Raises:
        DamagedFileError: the file is not what its suffix says, or is damaged from here on.
    """
    with _damage_named(source):
        yield from (
            _parquet(source.file, columns) if source.format == "parquet" else _arrow(source.file, columns)
        )


def is_text(kind: pa.DataType) -> bool:
    """Whether cells of an Arrow type are strings, or bytes that may be."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return kind in _TEXT_TYPES


def _no_text(schema: pa.Schema, column: str) -> str | None:
    if column not in schema.names:
        return no_text(column, schema.names)
    kind = schema.field(schema.get_field_index(column)).type
    if is_text(kind) or pa.types.is_null(kind):
        return None
    return f'{no_text(column, schema.names)} (column "{column}" is of type {kind})'


def _cells(batch: pa.RecordBatch, column: str) -> list[object]:
    """Text cells as bytes, so that one that is not UTF-8 does not spoil the others."""
    index = batch.schema.get_field_index(column)
    if index < 0:
        return [None] * batch.num_rows
    cells = batch.column(index)
    if not is_text(cells.type):
        return cells.to_pylist()
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    return cells.cast(pa.large_binary()).to_pylist()


def _parquet(path: Path, columns: list[str] | None) -> Iterator[pa.Schema | pa.RecordBatch]:
    with pq.ParquetFile(path, buffer_size=_READ_BUFFER, pre_buffer=False, memory_map=False) as file:
        schema = file.schema_arrow
        yield schema
        present = [name for name in schema.names if columns is None or name in columns]
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            row_bytes = group.total_byte_size // max(group.num_rows, 1) + 1
            num_rows = max(1, min(_MAX_BATCH_ROWS, BATCH_BYTES // row_bytes))
            yield from file.iter_batches(num_rows, row_groups=[index], columns=present, use_threads=False)


def _arrow(path: Path, columns: list[str] | None) -> Iterator[pa.Schema | pa.RecordBatch]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise pa.ArrowInvalid("the file is empty")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    buffer = pa.py_buffer(mapped)
    is_file = mapped[: len(_ARROW_FILE_MAGIC)] == _ARROW_FILE_MAGIC
    reader = pa.ipc.open_file(buffer) if is_file else pa.ipc.open_stream(buffer)
    yield reader.schema
    present = [name for name in reader.schema.names if columns is None or name in columns]
    batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
    for batch in batches:
        yield from _slices(batch.select(present), mapped)


def _slices(batch: pa.RecordBatch, mapped: mmap.mmap) -> Iterator[pa.RecordBatch]:
    """A batch in runs of rows of about BATCH_BYTES; the pages of each are given back when it was read."""
    row_bytes = batch.nbytes // max(batch.num_rows, 1) + 1
    num_rows = max(1, min(_MAX_BATCH_ROWS, BATCH_BYTES // row_bytes))
    for start in range(0, batch.num_rows, num_rows):
        yield batch.slice(start, num_rows)
        mapped.madvise(mmap.MADV_DONTNEED)


@contextmanager
def _damage_named(source: Source) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the file's content
        reason = " ".join(str(error).split())[:200]
        raise DamagedFileError(f"not a readable {source.format} file ({reason}); write it again") from error

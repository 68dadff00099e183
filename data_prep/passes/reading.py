"""The first pass: sources become chunks of cleaned documents with what is needed to plan.

A chunk is a range of the records of a source, in order. What was left out stands in it too, so that its rows
are the records, and the next chunk begins where it ends, also after a restart.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from typing_extensions import override

from data_prep.corpus.cleaning import Cleaner, Dropped
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import source_identity
from data_prep.durable import complete_file
from data_prep.errors import CorpusError
from data_prep.passes.job import Job
from data_prep.passes.sections import sections
from data_prep.passes.signatures import SIGNATURE_BYTES, Signer
from data_prep.passes.work import Pass, Report, Worker
from data_prep.schema import Record
from data_prep.schema import Source as Identity

_MAX_ROWS = 65_536
_ROWS_PER_BATCH = 256
_BATCH_CHARACTERS = 500_000
_SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("id_hash", pa.uint64()),
        ("text", pa.large_string()),
        ("characters", pa.uint32()),
        ("words", pa.uint32()),
        ("continues", pa.bool_()),
        ("text_hash", pa.binary(16)),
        ("signature", pa.binary(SIGNATURE_BYTES)),
        ("normalized", pa.uint32()),
        ("paragraphs_removed", pa.uint32()),
        ("dropped", pa.string()),
        ("reason", pa.string()),
    ]
)
_DETAILS = b"data_prep"
CHANGES = ("normalized", "paragraphs_removed")
"""Columns that say how often cleaning changed a document in such a way."""


class ChunkDetails(Record):
    """What a chunk says of itself: `records` of the source are read by its end, the rest is its own."""

    records: int
    documents: int
    words: int
    batch_ends: list[int]
    source: Identity | None
    """Set in the last chunk of a source."""


@dataclass(frozen=True)
class ReadingPass(Pass):
    """Task number i reads source number i; `section_words` cuts documents into sections of that size."""

    job: Job
    section_words: int | None = None
    name: ClassVar[str] = "reading"

    @property
    @override
    def folder(self) -> Path:
        return self.job.work / ("chunks" if self.section_words is None else "section-chunks")

    @property
    def tasks(self) -> list[int]:
        """One for each source."""
        return list(range(len(self.job.fingerprint.sources)))

    @override
    def is_done(self, task: int) -> bool:
        paths = self.chunk_paths(task)
        return bool(paths) and read_details(paths[-1]).source is not None

    def chunk_paths(self, task: int) -> list[Path]:
        """The chunks of a source, in order."""
        return sorted((self.folder / f"{task:06d}").glob("*.arrow"))

    def all_chunks(self) -> list[Path]:
        """The chunks of all sources, in order."""
        return [path for task in self.tasks for path in self.chunk_paths(task)]

    @override
    def worker(self) -> Worker:
        cleaner = Cleaner(self.job.settings.cleaning)
        signer = Signer()

        def read(task: int, report: Report) -> None:
            self._read(task, cleaner, signer, report)

        return read

    def _read(self, task: int, cleaner: Cleaner, signer: Signer, report: Report) -> None:
        source = self.job.fingerprint.sources[task]
        done = self.chunk_paths(task)
        number = len(done)  # counted from here on, since another process may write chunks ahead of this one
        chunk = _Chunk(signer, read_details(done[-1]).records if done else 0)
        settings = self.job.settings
        records = read_source(source, settings.text_field, settings.id_field)
        for record in itertools.islice(records, chunk.records, None):
            if chunk.is_full(settings.block_size):
                self._write(task, number, chunk, None)
                report(chunk.report())
                number += 1
                chunk = _Chunk(signer, chunk.records)
            chunk.records += 1
            before = Counter(cleaner.counts)
            for row in self._rows(record, cleaner):
                chunk.add(row, Counter(cleaner.counts) - before)
        self._write(task, number, chunk, source_identity(source))
        report(chunk.report())

    def _rows(self, record: Document | Rejected, cleaner: Cleaner) -> Iterable["Document | _LeftOut"]:
        if isinstance(record, Rejected):
            if self.job.settings.strict:
                raise CorpusError(f"{record.where}: {record.reason}")
            return [_LeftOut(record.where, record.kind, record.reason)]
        cleaned = cleaner(record)
        if isinstance(cleaned, Dropped):
            return [_LeftOut(record.doc_id, cleaned.kind, cleaned.reason)]
        return [cleaned] if self.section_words is None else sections(cleaned, self.section_words)

    def _write(self, task: int, number: int, chunk: "_Chunk", identity: Identity | None) -> None:
        path = self.folder / f"{task:06d}" / f"{number:06d}.arrow"
        with complete_file(path, self.job.staging) as partial:
            chunk.write(partial, identity)


@dataclass(frozen=True)
class _LeftOut:
    name: str
    kind: str
    reason: str


class _Chunk:
    """Rows that are gathered until they make a file; `records` of the source are read by its end."""

    def __init__(self, signer: Signer, records: int) -> None:
        self.records = records
        self._signer = signer
        self._rows: list[dict[str, Any]] = []
        self._characters = self._words = self._dropped = 0

    def is_full(self, characters: int) -> bool:
        return self._characters >= characters or len(self._rows) >= _MAX_ROWS

    def add(self, record: Document | _LeftOut, changes: Counter[str]) -> None:
        if isinstance(record, _LeftOut):
            self._dropped += 1
            self._rows.append({"doc_id": record.name, "dropped": record.kind, "reason": record.reason})
            return
        words = record.text.split()
        self._words += len(words)
        self._characters += len(record.text)
        self._rows.append(
            {
                "doc_id": record.doc_id,
                "id_hash": xxhash.xxh3_64_intdigest(record.doc_id.encode()),
                "text": record.text,
                "characters": len(record.text),
                "words": len(words),
                "continues": record.continues,
                "text_hash": xxhash.xxh3_128_digest(" ".join(words).encode()),
                "signature": self._signer.sign(words),
                **{name: changes[name] for name in CHANGES},
            }
        )

    def report(self) -> dict[str, int]:
        kept = len(self._rows) - self._dropped
        return {"words": self._words, "documents": kept, "dropped": self._dropped}

    def write(self, path: Path, identity: Identity | None) -> None:
        batches = [self._table(rows) for rows in self._batches()]
        ends = itertools.accumulate(batch.num_rows for batch in batches)
        details = ChunkDetails(
            records=self.records,
            documents=sum("text" in row and not row["continues"] for row in self._rows),
            words=self._words,
            batch_ends=list(ends),
            source=identity,
        )
        schema = _SCHEMA.with_metadata({_DETAILS: details.model_dump_json().encode()})
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema, options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)

    def _batches(self) -> Iterator[list[dict[str, Any]]]:
        """Few characters each, since a block of held-out documents reads one of them here and there."""
        batch: list[dict[str, Any]] = []
        characters = 0
        for row in self._rows:
            batch.append(row)
            characters += row.get("characters", 0)
            if characters >= _BATCH_CHARACTERS or len(batch) >= _ROWS_PER_BATCH:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def _table(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        return pa.record_batch(
            [pa.array([row.get(column.name) for row in rows], column.type) for column in _SCHEMA],
            schema=_SCHEMA,
        )


def read_details(path: Path) -> ChunkDetails:
    """What a chunk says of itself."""
    with pa.memory_map(str(path)) as file:
        return ChunkDetails.model_validate_json(pa.ipc.open_file(file).schema.metadata[_DETAILS])


def read_facts(path: Path) -> pa.Table:
    """What planning needs of all rows of a chunk; `dropped` is null for the documents that were kept."""
    return _read_columns(path, [column.name for column in _SCHEMA if column.name not in ("text", "reason")])


def read_left_out(path: Path) -> pa.Table:
    """`doc_id`, `dropped` and `reason` of all rows of a chunk."""
    return _read_columns(path, ["doc_id", "dropped", "reason"])


def read_documents(path: Path, rows: NDArray[np.int64]) -> Iterator[Document]:
    """The documents in some rows of a chunk, which ascend."""
    ends = read_details(path).batch_ends
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        numbers = np.searchsorted(ends, rows, side="right")
        for number in np.unique(numbers):
            batch = reader.get_batch(int(number))
            first = ends[number] - batch.num_rows
            found = batch.select(["doc_id", "text", "continues"]).take(rows[numbers == number] - first)
            for row in found.to_pylist():
                yield Document(row["doc_id"], row["text"], row["continues"])


def _read_columns(path: Path, names: list[str]) -> pa.Table:
    options = pa.ipc.IpcReadOptions(included_fields=[_SCHEMA.get_field_index(name) for name in names])
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file, options=options).read_all()

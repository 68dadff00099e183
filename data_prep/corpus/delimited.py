"""Documents from .csv and .tsv: a row each, with a header that names the columns.

A cell is held whole, up to MAX_CELL characters (the `csv` module takes four bytes for each meanwhile); a
longer one makes the rest of the file unreadable, since its end cannot be told from a quote that never closes.
"""

import csv
import io
import re
from collections.abc import Iterator

from data_prep.corpus.compression import open_bytes
from data_prep.corpus.decoding import BOM, not_text
from data_prep.corpus.documents import Document, Rejected, RejectedKind
from data_prep.corpus.inputs import Source
from data_prep.corpus.records import Wanted, document_of, no_text

MAX_CELL = 1 << 24
_WRONG_BYTE = re.compile("[\udc80-\udcff]")  # how `surrogateescape` decodes a byte that is not UTF-8


def read_delimited(source: Source, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The documents of a .csv or .tsv file, named by their id or by `file:row`; empty rows do not count."""
    with open_bytes(source.file, source.compression) as stream:
        if reason := not_text(stream.peek()):
            yield Rejected(source.name, "unreadable", reason)
            return
        rows = Rows(stream, source)
        if wanted.text_field not in rows.header:
            reason = no_text(wanted.text_field, rows.header)
            yield Rejected(source.name, "no_text_field", f"{reason}; its first row must name the columns")
            return
        for number, row in enumerate(rows, start=1):
            where = f"{source.name}, row {number}"
            if isinstance(row, Rejected):
                yield row
            elif len(row) != len(rows.header):
                reason = f"{len(row)} columns, the header has {len(rows.header)}"
                yield Rejected(where, "bad_row", reason)
            else:
                yield from _document(dict(zip(rows.header, row, strict=True)), where, number, source, wanted)


def _document(
    record: dict[str, str], where: str, number: int, source: Source, wanted: Wanted
) -> Iterator[Document | Rejected]:
    if wrong := _WRONG_BYTE.search(record[wanted.text_field] + record.get(wanted.id_field, "")):
        byte = ord(wrong.group()) - 0xDC00
        reason = f"not UTF-8 (a byte 0x{byte:02x}); convert it, for example with iconv -f latin1 -t utf-8"
        yield Rejected(where, "not_utf8", reason)
    else:
        yield from document_of(record, where, f"{source.label}:{number}", wanted)


class Rows:
    """The rows below the header; a Rejected, the last one, where the rest cannot be read."""

    def __init__(self, stream: io.BufferedReader, source: Source) -> None:
        self._source = source
        self._lines = _Lines(stream)
        csv.field_size_limit(MAX_CELL)
        self._reader = csv.reader(self._lines, delimiter="\t" if source.format == "tsv" else ",")
        self._number = 0
        self._broken: Rejected | None = None
        self.header = self._next_row() or []

    def __iter__(self) -> Iterator[list[str] | Rejected]:
        while row := self._next_row():
            yield row
        if self._broken:
            yield self._broken

    def _next_row(self) -> list[str] | None:
        """The next row that is not empty; None at the end."""
        try:
            for row in self._reader:
                if self._lines.at_end:  # a whole row does not ask for a line more
                    self._break("bad_row", "a quote opens here that never closes")
                    return None
                if row:
                    self._number += 1
                    return row
        except csv.Error:
            self._break(
                "too_long", f"a cell of more than {MAX_CELL:,} characters, or a quote that never closes"
            )
        return None

    def _break(self, kind: RejectedKind, reason: str) -> None:
        where = f"{self._source.name}, row {self._number}"
        self._broken = Rejected(where, kind, f"{reason}; nothing was read from here on")


class _Lines:
    """Decoded lines with their ends; knows whether it was asked for more than there are."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        self._at_start = True
        self.at_end = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_CELL + 2)
        if len(line) > MAX_CELL + 1:
            raise csv.Error("line too long")
        if self._at_start:
            line, self._at_start = line.removeprefix(BOM), False
        if not line:
            self.at_end = True
            raise StopIteration
        return line

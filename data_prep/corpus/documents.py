"""What reading yields: documents, and records that are none, each with its place and the reason."""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import Source

RejectedKind = Literal["unreadable", "not_utf8", "not_json", "bad_row", "too_long", "no_text_field", "empty"]
"""Why a record is no document:
unreadable     the file, or the rest of it, cannot be read: damaged, truncated, of another kind, binary
not_utf8       bytes that are not UTF-8
not_json       a line that is not JSON, or JSON that is not an object
bad_row        a row with too few or too many columns, or whose quotes never close
too_long       a line or a cell beyond what is held in memory (the format modules state their bounds)
no_text_field  the text field is absent, null or not a string
empty          a text of white space alone
"""


@dataclass(frozen=True)
class Document:
    """A text with the name that shards and reports know it by."""

    doc_id: str
    text: str
    continues: bool = False
    """A further part of the document before it; both were cut from one that was too long."""

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs (separated by blank lines), white space folded, hard line breaks mended."""
        blocks: list[list[str]] = [[]]
        for line in self.text.splitlines():
            words = line.split()
            if words:
                blocks[-1].extend(words)
            elif blocks[-1]:
                blocks.append([])
        return [" ".join(block) for block in blocks if block]


@dataclass(frozen=True)
class Rejected:
    """A record that is no document: where it stands, why in one word for counts, why in one line."""

    where: str
    kind: RejectedKind
    reason: str


@dataclass(frozen=True)
class Corpus:
    """Input files, read anew at every pass so that no pass holds the whole text."""

    paths: tuple[Path, ...]
    text_field: str = "text"
    id_field: str = "id"

    def __post_init__(self) -> None:
        for path in self.paths:
            if path.is_dir():
                raise UserError(f"{path}: is a folder; name its files, for example {path}/*.txt")
            if not path.is_file():
                raise UserError(f"{path}: no such file; check the path")
            if _kind(path) not in (".txt", ".jsonl"):
                raise UserError(f"{path}: unknown kind of file; give .txt or .jsonl, plain or .gz")

    def __iter__(self) -> Iterator[Document]:
        """All documents; a name that occurs again gets a number, so that names tell documents apart."""
        seen: Counter[str] = Counter()
        for path in self.paths:
            for document in self._documents(path):
                seen[document.doc_id] += 1
                number = seen[document.doc_id]
                yield document if number == 1 else Document(f"{document.doc_id}~{number}", document.text)

    def sources(self) -> list[Source]:
        """The input files with sizes and hashes."""
        return [Source(path=str(p), bytes=p.stat().st_size, sha256=sha256_file(p)) for p in self.paths]

    def _documents(self, path: Path) -> Iterator[Document]:
        with path.open("rb") as raw:
            stream: BinaryIO = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
            try:
                if _kind(path) == ".txt":
                    yield Document(path.name, _decode(stream.read(), str(path)))
                else:
                    yield from self._json_lines(path, stream)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise UserError(f"{path}: damaged gzip file ({error}); fetch it again") from error

    def _json_lines(self, path: Path, lines: Iterable[bytes]) -> Iterator[Document]:
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            content = _decode(line, where).strip()
            if not content:
                continue
            try:
                record = json.loads(content)
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", error)
                raise UserError(f"{where}: not JSON ({reason}); each line must be one JSON object") from error
            if not isinstance(record, dict):
                raise UserError(f"{where}: a JSON {type(record).__name__}; each line must be one JSON object")
            text = record.get(self.text_field)
            if not isinstance(text, str):
                raise UserError(
                    f'{where}: no text in field "{self.text_field}"; name the field with --text-field '
                    f"(this line has: {', '.join(map(str, record)) or 'none'})"
                )
            doc_id = record.get(self.id_field)
            doc_id = f"{path.name}:{number}" if doc_id is None else str(doc_id)
            yield Document(_without_surrogates(doc_id), _without_surrogates(text))


def _kind(path: Path) -> str:
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def _without_surrogates(text: str) -> str:
    """JSON can hold lone surrogates, UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: not UTF-8 (byte {error.start}: 0x{content[error.start]:02x}); "
            "convert it, for example with iconv -f latin1 -t utf-8"
        ) from error

"""Documents from JSON Lines: an object a line, with the text in one of its fields.

A line is held in memory up to MAX_LINE bytes. Of a longer one, the strings beyond LONG_STRING characters
are taken out, which leaves a short line that is read like any other; the text is then streamed from a
second reading of the file, which follows the first. So a bad line is rejected whole, whatever its length.
"""

import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from data_prep.corpus.compression import open_bytes
from data_prep.corpus.decoding import (
    BOM,
    NotUtf8Error,
    decode,
    decode_pieces,
    not_text,
    without_surrogates,
)
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.inputs import Source
from data_prep.corpus.json_characters import JsonCharacters, decode_json, decode_string
from data_prep.corpus.records import Wanted, document_of

MAX_LINE = 1 << 23
LONG_STRING = 1 << 20
_PIECE = 1 << 20


@dataclass(frozen=True)
class LineBounds:
    """Bytes of the longest line held whole, characters of the longest string kept of a longer one."""

    line: int = MAX_LINE
    string: int = LONG_STRING


def read_json_lines(
    source: Source, wanted: Wanted, bounds: LineBounds | None = None
) -> Iterator[Document | Rejected]:
    """The documents of a .jsonl file, named by their id or by `file:line`; blank lines are passed over."""
    bounds = bounds or LineBounds()
    with _open(source) as stream, _Follower(source) as follower:
        if reason := not_text(stream.peek()):
            yield Rejected(source.name, "unreadable", reason)
            return
        number = offset = 0
        while start := stream.readline(bounds.line):
            number += 1
            where, name = f"{source.name}, line {number}", f"{source.label}:{number}"
            if len(start) < bounds.line or start.endswith(b"\n"):
                yield from _short_line(start, where, name, wanted)
                offset += len(start)
            else:
                line = _LongLine(start, stream)
                yield from _long_line(line, follower, offset, where, name, wanted, bounds)
                offset += line.drain()


def json_values(source: Source) -> Iterator[object]:
    """The values of all lines, for files that are known to be good.

    Raises:
        ValueError: a line is not JSON or not UTF-8.
        RecursionError: it is nested too deep.
    """
    with _open(source) as stream:
        for line in stream:
            if content := decode(line).removeprefix(BOM).strip():
                yield decode_json(content)


def _short_line(line: bytes, where: str, name: str, wanted: Wanted) -> Iterator[Document | Rejected]:
    try:
        content = decode(line).removeprefix(BOM).strip()
        if not content:
            return
        record = decode_json(content)
    except NotUtf8Error as error:
        yield Rejected(where, "not_utf8", str(error))
    except (ValueError, RecursionError) as error:
        yield _not_json(where, error)
    else:
        yield from document_of(record, where, name, wanted)


def _long_line(
    line: "_LongLine",
    follower: "_Follower",
    offset: int,
    where: str,
    name: str,
    wanted: Wanted,
    bounds: LineBounds,
) -> Iterator[Document | Rejected]:
    try:
        outline = _outline(JsonCharacters(decode_pieces(line)), bounds)
        record = decode_json(outline.json.strip()) if outline.json.strip() else None
    except NotUtf8Error as error:
        yield Rejected(where, "not_utf8", str(error))
    except _TooLongError as error:
        yield Rejected(where, "too_long", str(error))
    except (ValueError, RecursionError) as error:
        yield _not_json(where, error)
    else:
        if not outline.json.strip():
            return
        text = record.get(wanted.text_field) if isinstance(record, dict) else None
        position = outline.long_strings.get(text) if isinstance(text, str) else None
        streamed = None if position is None else _text_at(follower, offset, position)
        yield from document_of(record, where, name, wanted, streamed)


def _not_json(where: str, error: Exception) -> Rejected:
    reason = getattr(error, "msg", error)
    return Rejected(where, "not_json", f"not JSON ({reason}); each line must be one JSON object")


class _TooLongError(Exception):
    """A line that stays long without its long strings."""


@dataclass
class _Outline:
    """A JSON text with a token in the place of each long string."""

    json: str = ""
    long_strings: dict[str, int] = field(default_factory=dict)
    """Token to the position of the string's first character, in characters from the start of the line."""


def _outline(characters: JsonCharacters, bounds: LineBounds) -> _Outline:
    """Read a text through, checking the strings that are left out; raises ValueError, _TooLongError."""
    outline = _Outline()
    kept = io.StringIO()
    secret = secrets.token_hex(16)  # no text can hold a token by chance or intent
    while True:
        opened = False
        for piece in characters.to_string():
            kept.write(piece)
            _check_size(kept, bounds)
            opened = piece.endswith('"')
        if not opened:
            outline.json = kept.getvalue()
            return outline
        start = characters.position
        held: list[str] | None = []
        for piece in characters.string():
            if held is not None:
                held.append(piece)
                if characters.position - start <= bounds.string:
                    continue
                piece, held = "".join(held), None
            decode_string(piece)
        if held is None:
            token = f"{secret}:{start}"
            outline.long_strings[token] = start
            kept.write(token)
        else:
            kept.writelines(held)
        kept.write('"')
        _check_size(kept, bounds)


def _check_size(kept: io.StringIO, bounds: LineBounds) -> None:
    if kept.tell() > bounds.line:
        raise _TooLongError(
            f"a line of more than {bounds.line:,} bytes beside its long strings; "
            "leave out the fields that are not needed"
        )


def _text_at(follower: "_Follower", offset: int, position: int) -> Iterator[str]:
    """The pieces of the string at a character position of the line at a byte offset."""
    characters = JsonCharacters(decode_pieces(follower.line_at(offset)))
    characters.skip_to(position)
    return (without_surrogates(decode_string(piece)) for piece in characters.string())


class _LongLine:
    """The bytes of a line in pieces; counts them."""

    def __init__(self, start: bytes, stream: io.BufferedReader) -> None:
        self._next = start
        self._stream = stream
        self._num_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        while self._next:
            piece = self._next
            self._num_bytes += len(piece)
            self._next = b"" if piece.endswith(b"\n") else self._stream.readline(_PIECE)
            yield piece

    def drain(self) -> int:
        """Read what is left of the line; returns the bytes of all of it."""
        for _ in self:
            pass
        return self._num_bytes


class _Follower:
    """A second reading of a file, opened when it is first needed; it only moves forward."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream: io.BufferedReader | None = None
        self._offset = 0

    def __enter__(self) -> "_Follower":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def line_at(self, offset: int) -> Iterator[bytes]:
        """The pieces of the line that starts at an offset ahead."""
        if self._stream is None:
            self._stream = _open(self._source)
        while self._offset < offset:
            self._offset += len(self._stream.read(min(_PIECE, offset - self._offset)))
        while piece := self._stream.readline(_PIECE):
            self._offset += len(piece)
            yield piece
            if piece.endswith(b"\n"):
                return


def _open(source: Source) -> io.BufferedReader:
    return io.BufferedReader(_UnixNewlines(open_bytes(source.file, source.compression)), _PIECE)


class _UnixNewlines(io.RawIOBase):
    r"""A stream in which every \r\n and \r is \n: JSON allows them between values alone."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._after_return = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._stream.read1(len(buffer))
        if self._after_return and content.startswith(b"\n"):
            content = content[1:] or self._stream.read1(len(buffer))
        self._after_return = content.endswith(b"\r")
        if b"\r" in content:
            content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()

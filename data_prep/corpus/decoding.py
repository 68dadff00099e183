"""Bytes to text: UTF-8 alone; what is something else is recognised, so that the user hears what to do."""

import codecs
import re
from collections.abc import Iterable, Iterator

BOM = "\ufeff"
_OTHER_KINDS = [  # UTF-32 before UTF-16, whose mark opens its own
    (b"\xff\xfe\x00\x00", "UTF-32", "convert it with iconv -f UTF-32 -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32", "convert it with iconv -f UTF-32 -t UTF-8"),
    (b"\xff\xfe", "UTF-16", "convert it with iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16", "convert it with iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "a gzip file", "give its name the suffix .gz"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "give its name the suffix .zst"),
    (b"\xfd7zXZ\x00", "an xz file", "give its name the suffix .xz"),
    (b"PK\x03\x04", "a zip archive (or an office document)", "unpack it, or save it as plain text"),
    (b"%PDF-", "a PDF file", "extract its text first, for example with pdftotext"),
]
_PROBE = 4096
_MIN_PROBE = 64
_BINARY_SHARE = 0.3


class NotUtf8Error(ValueError):
    """Bytes that are not UTF-8; the message names the first wrong one and a remedy."""

    def __init__(self, offset: int, byte: int) -> None:
        super().__init__(
            f"not UTF-8 (byte {offset}: 0x{byte:02x}); convert it, for example with iconv -f latin1 -t utf-8"
        )


def not_text(head: bytes) -> str | None:
    """What a file is instead of text, judged by its first bytes, with a remedy; None if it may be text."""
    for mark, kind, remedy in _OTHER_KINDS:
        if head.startswith(mark):
            return f"is {kind}, not UTF-8 text; {remedy}"
    probe = head[:_PROBE]
    if len(probe) >= _MIN_PROBE and probe.count(0) > _BINARY_SHARE * len(probe):
        return "is binary, or UTF-16 without a byte order mark; convert it to UTF-8 text"
    return None


def decode(content: bytes) -> str:
    """A whole line; raises NotUtf8Error."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise NotUtf8Error(error.start, content[error.start]) from error


def decode_pieces(pieces: Iterable[bytes]) -> Iterator[str]:
    """Text in pieces, without an initial byte order mark; raises NotUtf8Error where it goes wrong."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = 0
    at_start = True
    for piece in _and_end(pieces):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise NotUtf8Error(position - pending + error.start, error.object[error.start]) from error
        position += len(piece)
        if at_start and text:
            at_start = False
            text = text.removeprefix(BOM)
        if text:
            yield text


def without_surrogates(text: str) -> str:
    """The text with every lone surrogate, which JSON can hold and UTF-8 cannot, as a question mark."""
    return _SURROGATE.sub("?", text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _and_end(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield b""

"""Documents from plain text: a file is one document, read in pieces and cut where it is long."""

import io
from collections import deque
from collections.abc import Iterator

from data_prep.corpus.compression import DamagedFileError, open_bytes
from data_prep.corpus.decoding import NotUtf8Error, decode_pieces, not_text
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.inputs import Source
from data_prep.corpus.records import Wanted, documents_or_empty

_PIECE = 1 << 20


def read_plain_text(source: Source, wanted: Wanted) -> Iterator[Document | Rejected]:
    """The document of a .txt file, named after it.

    The file is read twice, so that one that is not UTF-8 to its end yields no part. Text before damage to a
    compressed file is yielded.

    Raises:
        DamagedFileError: after the text before the damage.
    """
    with open_bytes(source.file, source.compression) as stream:
        if reason := not_text(stream.peek()):
            yield Rejected(source.name, "unreadable", reason)
            return
    try:
        damages: list[DamagedFileError] = []
        deque(text_pieces(source, damages), maxlen=0)
    except NotUtf8Error as error:
        yield Rejected(source.name, "not_utf8", str(error))
        return
    parts = documents_or_empty(source.label, text_pieces(source, []), source.name, wanted)
    yield from (part for part in parts if isinstance(part, Document) or not damages)
    if damages:
        raise damages[0]


def text_pieces(source: Source, damages: list[DamagedFileError]) -> Iterator[str]:
    """The text of a file up to damage, which is put into `damages`; raises NotUtf8Error."""
    with open_bytes(source.file, source.compression) as stream:
        try:
            yield from decode_pieces(_up_to_damage(stream, damages))
        except NotUtf8Error:
            if not damages:  # else it is a character that the damage cut in two
                raise


def _up_to_damage(stream: io.BufferedReader, damages: list[DamagedFileError]) -> Iterator[bytes]:
    try:
        while piece := stream.read1(_PIECE):
            yield piece
    except DamagedFileError as error:
        damages.append(error)

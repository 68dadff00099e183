"""Documents of any length in parts of bounded length, cut where the text itself has a break."""

import re
from collections.abc import Iterable, Iterator

from data_prep.corpus.documents import Document

MAX_DOCUMENT = 2_000_000
"""Characters of the longest document, or part of one, that any later step holds in memory."""

_NEWLINE = "(?>\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029])"
_BREAKS = [
    re.compile(rf"{_NEWLINE}[^\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]*+{_NEWLINE}"),  # a paragraph ends
    re.compile(r"[.!?…][\"'”’»)\]]*+(?=\s)|[。！？]"),  # a sentence ends
    re.compile(r"\s"),
]


def cut_document(doc_id: str, pieces: Iterable[str], limit: int = MAX_DOCUMENT) -> Iterator[Document]:
    """A text as one document, or as parts `id#1`, `id#2`, … of at most `limit` characters; none if empty.

    A part ends at the last paragraph break of its second half, else sentence end, else white space, else
    at the limit; white space at a cut is dropped. Where it is cut does not depend on how `pieces` divide
    the text. Holds about two parts and a piece.
    """
    number = 0
    held = ""
    at_cut = False
    for piece in pieces:
        held += piece
        while True:
            if at_cut:
                held = held.lstrip()
                at_cut = not held
            if len(held) <= limit:
                break
            end = _cut(held, limit)
            part, held, at_cut = held[:end].rstrip(), held[end:], True
            if part:
                number += 1
                yield Document(f"{doc_id}#{number}", part, continues=number > 1)
    if held and not held.isspace():
        yield Document(f"{doc_id}#{number + 1}" if number else doc_id, held, continues=number > 0)


def _cut(text: str, limit: int) -> int:
    """Where the part at the start of `text`, which is longer than `limit`, ends."""
    for boundary in _BREAKS:
        end = 0
        for match in boundary.finditer(text, limit // 2, limit):
            end = match.end()
        if end:
            return end
    return limit

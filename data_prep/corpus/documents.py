"""What reading yields: documents, and records that are none, each with its place and the reason."""

from dataclasses import dataclass
from typing import Literal

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

"""From a record with fields to a document, or to the reason why it is none."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from data_prep.corpus.cutting import MAX_DOCUMENT, cut_document
from data_prep.corpus.decoding import without_surrogates
from data_prep.corpus.documents import Document, Rejected

_MAX_LISTED = 300


@dataclass(frozen=True)
class Wanted:
    """What is to be read of a source."""

    text_field: str = "text"
    id_field: str = "id"
    max_document: int = MAX_DOCUMENT
    """Characters beyond which a document is cut into parts."""


def document_of(
    record: object, where: str, name: str, wanted: Wanted, streamed: Iterable[str] | None = None
) -> Iterator[Document | Rejected]:
    """The document that a JSON value holds, in parts, or why it holds none.

    `name` stands in for an absent id. `streamed` is the text where it is too long to stand in the record.
    """
    if not isinstance(record, dict):
        kind = type(record).__name__
        yield Rejected(where, "not_json", f"a JSON {kind}; each line must be one JSON object")
        return
    text = record.get(wanted.text_field)
    if not isinstance(text, str):
        yield Rejected(where, "no_text_field", no_text(wanted.text_field, record))
        return
    doc_id = record.get(wanted.id_field)
    named = name if doc_id in (None, "") else without_surrogates(str(doc_id))
    yield from documents_or_empty(named, streamed or [without_surrogates(text)], where, wanted)


def documents_or_empty(
    doc_id: str, pieces: Iterable[str], where: str, wanted: Wanted
) -> Iterator[Document | Rejected]:
    """The parts of a text; one Rejected where it is white space alone."""
    is_empty = True
    for part in cut_document(doc_id, pieces, wanted.max_document):
        is_empty = False
        yield part
    if is_empty:
        yield Rejected(where, "empty", "a text of white space alone")


def no_text(field: str, present: Mapping[str, object] | Iterable[object]) -> str:
    """Why a record without text is rejected: what the field holds, or the fields that there are."""
    if isinstance(present, Mapping) and field in present:
        held = present[field]
        what = "null" if held is None else f"a {type(held).__name__}"
        return f'field "{field}" holds {what}, no text; mend it, or name another field with --text-field'
    listed = ", ".join(map(str, present)) or "no fields"
    if len(listed) > _MAX_LISTED:
        listed = f"{listed[:_MAX_LISTED]}…"
    listed = without_surrogates(listed)
    return f'no text in field "{field}"; the record has: {listed}; name the field with --text-field'

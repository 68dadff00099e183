"""Sources to documents, whatever the format."""

from collections.abc import Iterator

from data_prep.corpus.columnar import read_columnar
from data_prep.corpus.compression import DamagedFileError
from data_prep.corpus.cutting import MAX_DOCUMENT
from data_prep.corpus.delimited import read_delimited
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.inputs import Source
from data_prep.corpus.json_lines import read_json_lines
from data_prep.corpus.plain_text import read_plain_text
from data_prep.corpus.records import Wanted


def read_source(
    source: Source, text_field: str = "text", id_field: str = "id", max_document: int = MAX_DOCUMENT
) -> Iterator[Document | Rejected]:
    """The documents of a source, and a Rejected for each record that is none; the same sequence every time.

    A document of more than `max_document` characters comes in parts. Memory is bounded by that and by what
    the format modules state, whatever the size of a file or of a document in .txt and .jsonl.

    Raises:
        OSError: the file is gone or the disk fails.
        UserError: a data set of the hub cannot be read.
    """
    wanted = Wanted(text_field, id_field, max_document)
    try:
        yield from _documents(source, wanted)
    except DamagedFileError as error:
        yield Rejected(source.name, "unreadable", str(error))


def _documents(source: Source, wanted: Wanted) -> Iterator[Document | Rejected]:
    match source.format:
        case "txt":
            yield from read_plain_text(source, wanted)
        case "jsonl":
            yield from read_json_lines(source, wanted)
        case "csv" | "tsv":
            yield from read_delimited(source, wanted)
        case "parquet" | "arrow":
            yield from read_columnar(source, wanted)
        case "hub":
            from data_prep.corpus.hub import read_hub  # imports `datasets`, which takes seconds

            yield from read_hub(source, wanted)

"""Paragraphs that repeat evaluation texts are found by the runs of words they share, and taken out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from data_prep.corpus.columnar import record_batches
from data_prep.corpus.compression import DamagedFileError, open_bytes
from data_prep.corpus.decoding import decode_pieces, not_text
from data_prep.corpus.delimited import Rows
from data_prep.corpus.documents import Document, Rejected
from data_prep.corpus.inputs import Source, find_sources
from data_prep.corpus.json_lines import json_values
from data_prep.corpus.ngrams import Hashes, ngram_hashes, plain_words, word_hashes
from data_prep.errors import UserError

_BATCH = 4096


@dataclass(frozen=True)
class EvaluationTexts:
    """The runs of `n` words of evaluation texts, and how many texts were too short to hold one."""

    n: int
    ngrams: Hashes
    """Sorted, each once: uint64 [N]."""
    num_texts: int
    num_too_short: int


def read_evaluation_texts(names: Sequence[str], n: int) -> EvaluationTexts:
    """The runs of `n` words in every string of some inputs (a .txt is taken line by line).

    Raises:
        UserError: inputs that are not found, or cannot be read to their end.
    """
    found = [np.zeros(0, np.uint64)]
    num_texts = num_too_short = 0
    for source in find_sources(names).sources:
        for text in _strings_or_mistake(source):
            words = plain_words(text)
            if not words:
                continue
            num_texts += 1
            if len(words) < n:
                num_too_short += 1
                continue
            found.append(ngram_hashes(word_hashes(words), n))
            if len(found) > _BATCH:
                found = [np.unique(np.concatenate(found))]
    return EvaluationTexts(n, np.unique(np.concatenate(found)), num_texts, num_too_short)


@dataclass(frozen=True)
class Decontaminated:
    """What is left of a document, and what went."""

    document: Document
    paragraphs_removed: int
    words_removed: int
    words: int
    """Of the document as it was."""


class Decontaminator:
    """Takes the paragraphs that share a run of words with evaluation texts out of documents."""

    def __init__(self, texts: EvaluationTexts) -> None:
        self._texts = texts

    def __call__(self, document: Document) -> Decontaminated:
        """The document without the paragraphs that repeat; others change in white space alone."""
        paragraphs = document.paragraphs
        words = [plain_words(paragraph) for paragraph in paragraphs]
        lengths = np.array([len(each) for each in words], np.int64)
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        hits = self._hits(word_hashes(list(chain.from_iterable(words))))
        owners = np.searchsorted(ends, hits, side="right")
        inside = hits + self._texts.n <= ends[owners]  # a run may not go on into the next paragraph
        removed = set(owners[inside].tolist())
        if not removed:
            return Decontaminated(document, 0, 0, total)
        kept = [paragraph for index, paragraph in enumerate(paragraphs) if index not in removed]
        left = Document(document.doc_id, "\n\n".join(kept), document.continues)
        return Decontaminated(left, len(removed), int(lengths[list(removed)].sum()), total)

    def _hits(self, hashes: Hashes) -> np.ndarray:
        """Where runs start that evaluation texts hold: int64 [H], ascending."""
        known, ngrams = self._texts.ngrams, ngram_hashes(hashes, self._texts.n)
        if not len(known):
            return np.zeros(0, np.int64)
        places = np.minimum(np.searchsorted(known, ngrams), len(known) - 1)
        return np.flatnonzero(known[places] == ngrams)


def _strings_or_mistake(source: Source) -> Iterator[str]:
    try:
        yield from _strings(source)
    except (DamagedFileError, ValueError, RecursionError) as error:
        raise UserError(f"{source.name}: evaluation texts cannot be read: {error}") from error


def _strings(source: Source) -> Iterator[str]:
    match source.format:
        case "txt" | "csv" | "tsv":
            with open_bytes(source.file, source.compression) as stream:
                if reason := not_text(stream.peek()):
                    raise ValueError(reason)
                if source.format != "txt":
                    yield from _cells(Rows(stream, source))
                    return
                for line in stream:
                    yield from decode_pieces([line])
        case "jsonl":
            yield from _strings_in(json_values(source))
        case "parquet" | "arrow":
            for batch in record_batches(source, None):
                if isinstance(batch, pa.RecordBatch):
                    yield from _strings_in(batch.to_pylist())
        case "hub":
            from data_prep.corpus.hub import hub_records  # imports `datasets`, which takes seconds

            yield from _strings_in(hub_records(source))


def _cells(rows: Rows) -> Iterator[str]:
    for row in chain([rows.header], rows):
        if isinstance(row, Rejected):
            raise ValueError(f"{row.where}: {row.reason}")
        yield from row


def _strings_in(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _strings_in(value.values())
        elif isinstance(value, list):
            yield from _strings_in(value)

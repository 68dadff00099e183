"""What a tagger says of a text, and the plain way to learn it: spaCy's own pipeline, whatever its kind."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from spacy.tokens import Doc

from data_prep.tagging.loading import Pipeline
from data_prep.tagging.tag_map import TagMap

_BATCH_SIZE = 64


@dataclass(frozen=True)
class TaggedParagraph:
    """W words of a text: `starts`, `ends` [W] in characters, `tasks` [W], `sentence_starts` [W] bool."""

    text: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    tasks: NDArray[np.uint8]
    sentence_starts: NDArray[np.bool_]


class Annotator(Protocol):
    """A way from texts to words and tasks."""

    def annotate(self, texts: Sequence[str]) -> list[TaggedParagraph | None]:
        """Tag texts, each on its own; None for one without a word."""
        ...


class PlainAnnotator:
    """Tags through `nlp.pipe`."""

    def __init__(self, pipeline: Pipeline, tag_map: TagMap) -> None:
        self._pipeline = pipeline
        self._tag_map = tag_map
        self._task_of_key: dict[int, int] = {}
        """Task by spaCy's number for a tag."""

    def annotate(self, texts: Sequence[str]) -> list[TaggedParagraph | None]:
        """Tag texts, each on its own; None for one without a word."""
        if self._pipeline.is_full:
            self._pipeline.renew()
        docs = self._pipeline.nlp.pipe(texts, batch_size=_BATCH_SIZE)
        return [self._paragraph(doc) if len(doc) else None for doc in docs]

    def tasks_of_words(
        self, sentences: Iterable[tuple[list[str], list[bool]]]
    ) -> Iterator[NDArray[np.uint8]]:
        """Tasks [W] of sentences cut into W words, each word with whether a space follows it."""
        nlp = self._pipeline.nlp
        docs = (Doc(nlp.vocab, words, spaces) for words, spaces in sentences)
        for doc in nlp.pipe(docs, batch_size=_BATCH_SIZE):
            yield self._tasks(doc)

    def _paragraph(self, doc: Doc) -> TaggedParagraph:
        columns = doc.to_array(["IDX", "LENGTH", "SENT_START"])
        starts = columns[:, 0].astype(np.int64)
        sentence_starts = columns[:, 2] == 1
        sentence_starts[0] = True
        return TaggedParagraph(
            text=doc.text,
            starts=starts,
            ends=starts + columns[:, 1].astype(np.int64),
            tasks=self._tasks(doc),
            sentence_starts=sentence_starts,
        )

    def _tasks(self, doc: Doc) -> NDArray[np.uint8]:
        keys, inverse = np.unique(doc.to_array(self._tag_map.attribute.upper()), return_inverse=True)
        return np.array([self._task(int(key)) for key in keys], np.uint8)[inverse]

    def _task(self, key: int) -> int:
        if key not in self._task_of_key:
            self._task_of_key[key] = self._tag_map.task_of_tag(self._pipeline.nlp.vocab.strings[key])
        return self._task_of_key[key]

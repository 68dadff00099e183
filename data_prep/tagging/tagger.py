"""Words, their tasks and the sentence starts of documents."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from data_prep.corpus.documents import Document
from data_prep.durable import sha256_folder
from data_prep.schema import Component
from data_prep.tagging.annotation import Annotator, PlainAnnotator, TaggedParagraph
from data_prep.tagging.cutting import cut_text
from data_prep.tagging.fast_annotation import FastAnnotator
from data_prep.tagging.loading import Device, Pipeline
from data_prep.tagging.network import UnknownArchitectureError
from data_prep.tagging.tag_map import TagMap, load_tag_map

__all__ = ["TaggedParagraph", "Tagger"]

_BATCH_CHARACTERS = 400_000
"""Text that is read ahead and tagged at once."""


class Tagger:
    """A spaCy pipeline as a function from documents to words, tasks and sentence starts.

    The result depends on the documents alone: not on the number of cores, nor on what was tagged before.
    """

    def __init__(
        self,
        name: str | None = None,
        tag_map: TagMap | None = None,
        device: Device = "cpu",
    ) -> None:
        """Load a pipeline.

        Args:
            name: an installed spaCy pipeline or the path of one; by default an English one.
            tag_map: which tags make up which task; by default the nine parts of speech of English.
            device: where the pipeline's networks run.

        Raises:
            UserError: no such pipeline, one that lacks what the tag map needs, or no GPU.
        """
        self.tag_map = tag_map or load_tag_map()
        pipeline = Pipeline(name, self.tag_map, device)
        nlp = pipeline.nlp
        self.component = Component(
            name=f"{nlp.meta['lang']}_{nlp.meta['name']}",
            version=nlp.meta["version"],
            sha256=sha256_folder(nlp.path),
        )
        self._plain = PlainAnnotator(pipeline, self.tag_map)
        self._annotator: Annotator = self._plain
        if device == "cpu":
            with suppress(UnknownArchitectureError):  # the plain way serves any pipeline
                self._annotator = FastAnnotator(pipeline, self.tag_map, self._plain)
        self._libraries = ThreadpoolController()

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks in the order of their ids."""
        return self.tag_map.task_names

    def tag(self, documents: Iterable[Document]) -> Iterator[tuple[Document, list[TaggedParagraph]]]:
        """Tag documents in order; those without a word come with an empty list."""
        for _, group in groupby(self._tagged(documents), key=lambda tagged: tagged[0].number):
            inputs, paragraphs = zip(*group, strict=True)
            yield inputs[0].document, [paragraph for paragraph in paragraphs if paragraph]

    def tasks_of_words(
        self, sentences: Iterable[tuple[list[str], list[bool]]]
    ) -> Iterator[NDArray[np.uint8]]:
        """Tasks [W] of sentences that are cut into words already.

        Args:
            sentences: W words, each with whether a space follows it.
        """
        yield from self._plain.tasks_of_words(sentences)

    def _tagged(self, documents: Iterable[Document]) -> Iterator[tuple["_Input", TaggedParagraph | None]]:
        for batch in _batches(documents):
            with self._libraries.limit(limits=1, user_api="blas"):
                paragraphs = self._annotator.annotate([item.text for item in batch])
            yield from zip(batch, paragraphs, strict=True)


class _Input(NamedTuple):
    """A paragraph or a part of one; `number` counts documents."""

    number: int
    document: Document
    text: str


def _batches(documents: Iterable[Document]) -> Iterator[list[_Input]]:
    batch: list[_Input] = []
    size = 0
    for number, document in enumerate(documents):
        for paragraph in document.paragraphs or [""]:
            for text in cut_text(paragraph):
                batch.append(_Input(number, document, text))
                size += len(text) + 1
                if size >= _BATCH_CHARACTERS:
                    yield batch
                    batch, size = [], 0
    if batch:
        yield batch

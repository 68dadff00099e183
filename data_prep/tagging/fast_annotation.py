"""Tagging without spaCy's Doc objects: words from a lexicon, labels from matrix products."""

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokenizer import Tokenizer

from data_prep.tagging.annotation import Annotator, TaggedParagraph
from data_prep.tagging.lexicon import Lexicon
from data_prep.tagging.loading import Pipeline, tags_of_labels
from data_prep.tagging.network import ConvolutionalTagger, UnknownArchitectureError
from data_prep.tagging.tag_map import TagMap

Places = NDArray[np.intp]

_TAGGER, _SENTER = 0, 1
"""Numbers of the networks."""
_SENTENCE_START = 1
"""The senter's label of a word that begins a sentence."""


class FastAnnotator:
    """The tags and sentence starts of `nlp.pipe`, several times as fast, for the pipelines it can compute.

    These cut texts at white space first and have convolutional networks over hashed attributes, as all of
    spaCy's own `sm` pipelines. A text that is not words between single spaces goes to `plain`.
    """

    def __init__(self, pipeline: Pipeline, tag_map: TagMap, plain: Annotator) -> None:
        """Take over the pipeline's tagger, or morphologizer, and its senter.

        Raises:
            UnknownArchitectureError: a pipeline of another kind.
        """
        nlp = pipeline.nlp
        tokenizer: Any = nlp.tokenizer
        if type(tokenizer) is not Tokenizer or any(len(rule.split()) > 1 for rule in tokenizer.rules):
            raise UnknownArchitectureError("tokenizer")
        senter = [name for name, factory in nlp.pipe_factories.items() if factory == "senter"]
        if not senter:
            raise UnknownArchitectureError("sentencizer")
        if tag_map.attribute == "pos" and nlp.pipe_factories[pipeline.tag_component] == "tagger":
            raise UnknownArchitectureError("attribute_ruler")
        self._networks = (_network(nlp, pipeline.tag_component), _network(nlp, senter[0]))
        self._lexicon = Lexicon(pipeline, self._networks)
        labels = tags_of_labels(nlp, pipeline.tag_component)
        self._task_of_label = np.array([tag_map.task_of_tag(tag) for tag in labels], np.uint8)
        self._plain = plain

    def annotate(self, texts: Sequence[str]) -> list[TaggedParagraph | None]:
        """Tag texts, each on its own; None for one without a word."""
        words = [text.split() for text in texts]
        numbers = self._lexicon.look_up([word for own in words for word in own])
        num_words = np.array([len(own) for own in words], np.intp)
        simple = np.array(
            [bool(own) and " ".join(own) == text for own, text in zip(words, texts, strict=True)]
        )
        simple[self._with_hidden_cases(numbers, num_words)] = False
        tagged = iter(
            self._annotate(
                list(compress(texts, simple)), numbers[np.repeat(simple, num_words)], num_words[simple]
            )
        )
        plain = iter(self._plain.annotate(list(compress(texts, ~simple))))
        return [next(tagged if is_simple else plain) for is_simple in simple]

    def _with_hidden_cases(self, numbers: Places, num_words: Places) -> Places:
        """Texts in which a special case may span two words and hide one inside them."""
        ends, starts, at_risk = self._lexicon.edges[numbers].T
        spans = self._lexicon.special_cases.spans[ends[:-1], starts[1:]]
        places = np.flatnonzero(spans & ((at_risk[:-1] | at_risk[1:]) > 0))
        return np.searchsorted(np.cumsum(num_words), places, side="right")

    def _annotate(self, texts: list[str], numbers: Places, num_words: Places) -> list[TaggedParagraph]:
        """Tag texts of `num_words` words each, given the words' `numbers` in the lexicon."""
        if not texts:
            return []
        first, counts = self._lexicon.first[numbers], self._lexicon.counts[numbers]
        word_ends = np.cumsum(counts)
        tokens = np.repeat(first - (word_ends - counts), counts) + np.arange(word_ends[-1])
        text_ends = word_ends[np.cumsum(num_words) - 1]
        text_starts = np.concatenate([[0], text_ends[:-1]])
        space_follows = np.zeros(len(tokens), np.intp)
        space_follows[word_ends - 1] = 1
        space_follows[text_ends - 1] = 0

        lengths = self._lexicon.lengths[tokens]
        ends = np.cumsum(lengths + space_follows) - space_follows
        offsets = np.repeat(ends[text_starts] - lengths[text_starts], text_ends - text_starts)
        ends -= offsets
        starts = ends - lengths

        rows = self._lexicon.rows[tokens] + space_follows
        text_numbers = np.repeat(np.arange(len(texts)), text_ends - text_starts)
        tasks = self._task_of_label[self._labels(_TAGGER, rows, text_numbers)]
        sentence_starts = self._labels(_SENTER, rows, text_numbers) == _SENTENCE_START
        sentence_starts[text_starts] = True
        return [
            TaggedParagraph(text, starts[a:b], ends[a:b], tasks[a:b], sentence_starts[a:b])
            for text, a, b in zip(texts, text_starts.tolist(), text_ends.tolist(), strict=True)
        ]

    def _labels(self, number: int, rows: Places, text_numbers: Places) -> Places:
        """Labels [N] of tokens with vectors `rows` [N] in texts `text_numbers` [N], by a network's number."""
        network = self._networks[number]
        places = np.arange(len(rows)) + network.halo * text_numbers
        padded = np.zeros(places[-1] + 1, np.intp)
        padded[places] = rows
        return network.labels(self._lexicon.table(number), padded)[places]


def _network(nlp: Language, name: str) -> ConvolutionalTagger:
    pipe: Any = nlp.get_pipe(name)
    model = pipe.model
    if not model.has_ref("tok2vec"):
        raise UnknownArchitectureError(model.name)
    tok2vec = model.get_ref("tok2vec")
    for _, other in nlp.pipeline:
        if tok2vec in getattr(other, "listeners", []):
            tok2vec = getattr(other, "model", tok2vec)
    return ConvolutionalTagger(model, tok2vec)

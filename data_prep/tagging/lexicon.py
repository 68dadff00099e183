"""What is known of a word before its context: its tokens and their vectors, found once, then looked up."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.tagging.loading import Pipeline
from data_prep.tagging.network import ConvolutionalTagger, Features, Floats
from data_prep.tagging.special_cases import SpecialCases

_MAX_WORDS = 250_000
"""Beyond it the lexicon starts afresh: no more than about 0.4 GB, whatever the text."""


class Lexicon:
    """Words (stretches without white space) as tokens, and the tokens' vectors for each network.

    Word w is the tokens from `first[w]` to `first[w] + counts[w]`. Token t is
    `lengths[t]` characters long and has vector `rows[t]` of each table where no space follows, `rows[t] + 1`
    where one does. Vector 0 is zero.
    """

    def __init__(self, pipeline: Pipeline, networks: Sequence[ConvolutionalTagger]) -> None:
        self._pipeline = pipeline
        self._networks = networks
        names = dict.fromkeys(column for network in networks for column in network.columns)
        self._columns = [name for name in names if name != "SPACY"]
        self._clear()

    def look_up(self, words: Sequence[str]) -> NDArray[np.intp]:
        """The numbers of words [W], valid until the next call."""
        if len(self._numbers) > _MAX_WORDS or self._pipeline.is_full:
            self._pipeline.renew()
            self._clear()
        new = [word for word in set(words) if word not in self._numbers]
        if new:
            self._learn(sorted(new))
        return np.fromiter(map(self._numbers.__getitem__, words), np.intp, len(words))

    @property
    def first(self) -> NDArray[np.intp]:
        """First token of each word."""
        return self._first.view

    @property
    def counts(self) -> NDArray[np.intp]:
        """Number of tokens of each word."""
        return self._counts.view

    @property
    def edges(self) -> NDArray[np.intp]:
        """Each word's `SpecialCases.edges` [words, 3]."""
        return self._edges.view

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Characters of each token."""
        return self._lengths.view

    @property
    def rows(self) -> NDArray[np.intp]:
        """Place of each token's vector in the tables."""
        return self._rows.view

    def table(self, network: int) -> Floats:
        """Vectors [M, width] for one of the networks."""
        return self._tables[network].view

    def _clear(self) -> None:
        self.special_cases = SpecialCases(self._pipeline.nlp.tokenizer)
        self._numbers: dict[str, int] = {}
        self._row_of: dict[bytes, int] = {}
        self._first, self._counts, self._lengths, self._rows = (_Array(np.intp) for _ in range(4))
        self._edges = _Array(np.intp, 3)
        self._tables = [_Array(np.float32, network.width) for network in self._networks]
        for table in self._tables:
            table.extend(np.zeros((1, table.view.shape[1]), np.float32))

    def _learn(self, words: Sequence[str]) -> None:
        docs = [self._pipeline.nlp.make_doc(word) for word in words]
        counts = np.array([len(doc) for doc in docs], np.intp)
        columns = np.concatenate([doc.to_array(["LENGTH", *self._columns]) for doc in docs])
        self._first.extend(len(self.lengths) + np.cumsum(counts) - counts)
        self._counts.extend(counts)
        self._edges.extend([self.special_cases.edges(doc) for doc in docs])
        self._lengths.extend(columns[:, 0].astype(np.intp))
        self._rows.extend(self._rows_of(np.ascontiguousarray(columns[:, 1:])))
        self._numbers.update(
            zip(words, range(len(self._numbers), len(self._numbers) + len(words)), strict=True)
        )

    def _rows_of(self, features: Features) -> list[int]:
        keys = [feature.tobytes() for feature in features]
        new: dict[bytes, Features] = {}
        for key, feature in zip(keys, features, strict=True):
            if key not in self._row_of:
                self._row_of[key] = 1 + 2 * len(self._row_of)
                new[key] = feature
        if new:
            self._embed(np.repeat(np.stack(list(new.values())), 2, axis=0))
        return [self._row_of[key] for key in keys]

    def _embed(self, features: Features) -> None:
        values = dict(zip(self._columns, features.T, strict=True))
        values["SPACY"] = np.tile(np.array([0, 1], np.uint64), len(features) // 2)
        for network, table in zip(self._networks, self._tables, strict=True):
            table.extend(network.embed(np.stack([values[name] for name in network.columns], axis=1)))


class _Array:
    """An array that grows along its first axis."""

    def __init__(self, dtype: Any, *width: int) -> None:
        self._content = np.empty((1024, *width), dtype)
        self._size = 0

    @property
    def view(self) -> NDArray[Any]:
        return self._content[: self._size]

    def extend(self, values: Iterable[Any]) -> None:
        values = np.asarray(values, self._content.dtype)
        size = self._size + len(values)
        if size > len(self._content):
            grown = np.empty(
                (max(size, 2 * len(self._content)), *self._content.shape[1:]), self._content.dtype
            )
            grown[: self._size] = self.view
            self._content = grown
        self._content[self._size : size] = values
        self._size = size

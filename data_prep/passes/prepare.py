"""The offline stage from end to end: corpus, splits, tags, pieces, sequences, groups, shards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data_prep.corpus.documents import Corpus, Document
from data_prep.durable import complete_folder
from data_prep.errors import UserError
from data_prep.passes.groups import assign_groups
from data_prep.passes.splits import MIN_DOCUMENTS, Survey, assign_splits, section_words, sections, survey
from data_prep.progress import progress
from data_prep.schema import SCHEMA_VERSION, TOKENIZER, Manifest, Shard, Split, write_manifest
from data_prep.sequences.pairs import PairBuilder, PairedSequence
from data_prep.sequences.pieces import EncodedDocument, encode_document
from data_prep.sequences.tokenizer import (
    highest_id,
    load_tokenizer,
    tokenizer_component,
    tokenizer_json,
    train_tokenizer,
)
from data_prep.shards.writing import write_shards
from data_prep.tagging.tag_map import TASK_NAMES
from data_prep.tagging.tagger import Tagger

_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Settings:
    """How a corpus is prepared; `shares` are the held-out parts of its words."""

    vocab_size: int
    sequence_length: int
    shares: dict[Split, float]
    seed: int
    tokenizer: Path | None = None
    tagger: str | None = None


@dataclass(frozen=True)
class Prepared:
    """What was written, and what the user should know about it."""

    manifest: Manifest
    warnings: list[str]
    num_without_task: int
    """Training sequences that hold no word of any task, and were left out."""


def prepare_text(corpus: Corpus, out: Path, settings: Settings) -> Prepared:
    """Write the shards of `corpus` to `out`, which appears only when it is complete.

    Raises:
        UserError: input that cannot be used, or an output folder that already holds something.
    """
    with complete_folder(out, "--out") as folder:
        tagger = Tagger(settings.tagger)
        given = load_tokenizer(settings.tokenizer) if settings.tokenizer else None
        documents = _Documents(corpus)
        splits = assign_splits(documents.surveys, settings.shares, settings.seed)
        tokenizer = given or _train_tokenizer(documents, splits, settings.vocab_size)
        encoded = _encode(documents, splits, tagger, tokenizer)
        vocab_size = highest_id(tokenizer) + 1
        shards: list[Shard] = []
        num_sequences = 0
        for split in _SPLITS:
            pairs = list(PairBuilder(encoded[split], tokenizer, settings.sequence_length, settings.seed))
            shards += _write_split(folder, split, pairs, vocab_size, settings.seed)
            num_sequences += len(pairs)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            task_names=list(TASK_NAMES),
            sequence_length=settings.sequence_length,
            vocab_size=vocab_size,
            seed=settings.seed,
            tagger=tagger.component,
            tokenizer=tokenizer_component(tokenizer),
            sources=corpus.sources(),
            documents={split: len(encoded[split]) for split in _SPLITS},
            shards=shards,
        )
        if not any(manifest.train_rows(task) for task in TASK_NAMES):
            raise UserError("the corpus has no word of any task; give English text, or another --tagger")
        (folder / TOKENIZER).write_bytes(tokenizer_json(tokenizer))
        write_manifest(folder, manifest)
    num_written = sum(shard.rows for shard in shards)
    return Prepared(manifest, documents.warnings + _absent_tasks(manifest), num_sequences - num_written)


class _Documents:
    """The corpus as documents that can be held out, and a survey of them."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._section_words: int | None = None
        self.warnings: list[str] = []
        self.surveys = self._survey()
        if len(self.surveys) < MIN_DOCUMENTS:
            found = len(self.surveys)
            self._section_words = section_words(self.words)
            self.surveys = self._survey()
            self.warnings.append(
                f"the corpus has {found} document{'s' * (found != 1)}, too few to hold whole ones out: "
                f"{len(self.surveys)} sections of about {self._section_words} words are split instead, "
                "so held-out text comes from documents that were trained on"
            )

    @property
    def words(self) -> int:
        return sum(item.words for item in self.surveys)

    def __iter__(self) -> Iterator[Document]:
        for document in self._corpus:
            if not document.text.strip():
                continue
            if self._section_words is None:
                yield document
            else:
                yield from sections(document, self._section_words)

    def _survey(self) -> list[Survey]:
        surveys = [survey(item) for item in progress(self, desc="reading", unit=" documents", leave=False)]
        if not surveys:
            raise UserError(
                f"{', '.join(map(str, self._corpus.paths))}: no text in the corpus; give files that hold some"
            )
        return surveys


def _train_tokenizer(documents: _Documents, splits: list[Split], vocab_size: int) -> Tokenizer:
    """A tokenizer that has seen the training split alone."""
    texts = (item.text for item, split in zip(documents, splits, strict=True) if split == "train")
    return train_tokenizer(progress(texts, desc="tokenizer", unit=" documents", leave=False), vocab_size)


def _encode(
    documents: _Documents, splits: list[Split], tagger: Tagger, tokenizer: Tokenizer
) -> dict[Split, list[EncodedDocument]]:
    encoded: dict[Split, list[EncodedDocument]] = {split: [] for split in _SPLITS}
    with progress(total=documents.words, desc="tagging", unit=" words", unit_scale=True) as bar:
        tagged = zip(tagger.tag(documents), splits, documents.surveys, strict=True)
        for (document, paragraphs), split, item in tagged:
            pieces = encode_document(tokenizer, document.doc_id, paragraphs)
            if len(pieces):
                encoded[split].append(pieces)
            bar.update(item.words)
    return encoded


def _write_split(
    folder: Path, split: Split, pairs: list[PairedSequence], vocab_size: int, seed: int
) -> Iterator[Shard]:
    if not pairs:
        raise UserError(
            f"the {split} split of the corpus gives no sequence; give more text, or another --seed"
        )
    if split != "train":
        yield from write_shards(folder, split, None, pairs, TASK_NAMES, vocab_size)
        return
    groups = assign_groups(np.stack([pair.task_words(len(TASK_NAMES)) for pair in pairs]), seed)
    for task_id, task in enumerate(TASK_NAMES):
        members = [pairs[index] for index in np.flatnonzero(groups == task_id)]
        yield from write_shards(folder, split, task, members, TASK_NAMES, vocab_size)


def _absent_tasks(manifest: Manifest) -> list[str]:
    absent = [task for task in manifest.task_names if manifest.train_rows(task) == 0]
    if not absent:
        return []
    return [f"no training words of {', '.join(absent)}: training goes on without"]

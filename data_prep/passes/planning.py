"""The second pass decides what is global: duplicates, splits, blocks, the tokenizer."""

import heapq
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import override

from data_prep.corpus.documents import Document
from data_prep.durable import complete_file
from data_prep.passes.job import Job
from data_prep.passes.reading import ChunkDetails, ReadingPass, read_details, read_documents
from data_prep.passes.splits import SPLITS, TEST, TRAIN, VALIDATION, assign_splits, clusters, mix
from data_prep.passes.survey import Survey, numbered, runs
from data_prep.passes.work import Pass, Report, Worker
from data_prep.schema import DROPPED, TOKENIZER, Record, Source, Split
from data_prep.sequences.tokenizer import load_tokenizer, tokenizer_json, train_tokenizer

_PLAN = "plan.json"
_PLACES = "documents.arrow"
_PLACES_SCHEMA = pa.schema([(name, pa.uint32()) for name in ("chunk", "row", "number", "origin")])
_KINDS = ("kept", "exact_duplicate", "near_duplicate")
_KEPT, _EXACT, _NEAR = range(3)


class Block(Record):
    """A range of the planned documents, all of one split, that is prepared in one go."""

    split: Split
    first: int
    last: int
    words: int


class Plan(Record):
    """What every part reads."""

    chunks: list[str]
    """Relative to the job's work folder."""
    sources: list[Source]
    blocks: list[Block]
    section_words: int | None
    documents: dict[Split, int]
    words: dict[Split, int]
    dropped: dict[str, int]
    cleaned: dict[str, int]


@dataclass(frozen=True)
class PlannedDocument:
    """A document of a block; those of the same `origin` are parts of one document."""

    document: Document
    origin: int

    @property
    def words(self) -> int:
        """Words between white space."""
        return len(self.document.text.split())


@dataclass(frozen=True)
class _Duplicates:
    """`kinds` [N] numbers of `_KINDS`; `leaders` [N] whose duplicate each document is, perhaps its own.

    `near`, `same` [N] are the first documents of the cluster of near-duplicates, and of the same text.
    """

    kinds: NDArray[np.int64]
    leaders: NDArray[np.int64]
    near: NDArray[np.int64]
    same: NDArray[np.int64]


@dataclass(frozen=True)
class PlanningPass(Pass):
    """One task, number 0."""

    job: Job
    reading: ReadingPass
    name: ClassVar[str] = "planning"

    @property
    @override
    def folder(self) -> Path:
        return self.job.work / "plan"

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer of all parts."""
        return self.folder / TOKENIZER

    @property
    def dropped_path(self) -> Path:
        """The list of documents that were left out."""
        return self.folder / DROPPED

    @override
    def is_done(self, task: int) -> bool:
        return (self.folder / _PLAN).is_file()

    def plan(self) -> Plan:
        """The plan, once it is done."""
        return Plan.model_validate_json((self.folder / _PLAN).read_bytes())

    def documents(self, plan: Plan, block: Block) -> Iterator[PlannedDocument]:
        """The documents of a block, in order."""
        with pa.memory_map(str(self.folder / _PLACES)) as file:
            table = pa.ipc.open_file(file).read_all().slice(block.first, block.last - block.first)
            chunk, row, number, origin = (column.to_numpy() for column in table.columns)
        for index, span in runs(chunk):
            found = read_documents(self.job.work / plan.chunks[index], row[span])
            for document, times, first in zip(found, number[span], origin[span], strict=True):
                name = numbered(document.doc_id, int(times))
                yield PlannedDocument(Document(name, document.text), int(first))

    @override
    def worker(self) -> Worker:
        return self._decide

    def _decide(self, task: int, report: Report) -> None:
        self.job.staging.mkdir(parents=True, exist_ok=True)
        settings = self.job.settings
        with TemporaryFile(dir=self.job.staging) as signatures:
            survey = Survey(self.reading.all_chunks(), signatures)
            duplicates = _find_duplicates(survey, settings.drop_duplicates)
        kept = np.flatnonzero(duplicates.kinds == _KEPT)
        splits = assign_splits(
            clusters(len(survey), [duplicates.near, duplicates.same, survey.origins])[kept],
            survey.words[kept],
            survey.names[kept],
            {TEST: settings.test_share, VALIDATION: settings.validation_share},
            settings.seed,
        )
        order = np.argsort(splits, kind="stable")
        kept, splits = kept[order], splits[order]
        self._write_dropped(survey, duplicates)
        self._write_places(survey, kept)
        self._write_tokenizer(survey, kept[splits == TRAIN])
        plan = self._plan(survey, duplicates, kept, splits)
        with complete_file(self.folder / _PLAN, self.job.staging) as partial:
            partial.write_text(plan.model_dump_json() + "\n", encoding="utf-8")

    def _plan(
        self, survey: Survey, duplicates: "_Duplicates", kept: NDArray[np.int64], splits: NDArray[np.uint8]
    ) -> Plan:
        words = survey.words[kept]
        details = [read_details(path) for path in survey.chunks]
        counts = np.bincount(duplicates.kinds, minlength=len(_KINDS)).tolist()
        dropped = survey.left_out + Counter(dict(zip(_KINDS, counts, strict=True)))
        del dropped[_KINDS[_KEPT]]
        size = self.job.settings.block_size
        return Plan(
            chunks=[path.relative_to(self.job.work).as_posix() for path in survey.chunks],
            sources=list(_sources(details)),
            blocks=list(make_blocks(splits, survey.characters[kept], words, size)),
            section_words=self.reading.section_words,
            documents={split: int((splits == number).sum()) for number, split in enumerate(SPLITS)},
            words={split: int(words[splits == number].sum()) for number, split in enumerate(SPLITS)},
            dropped=dict(sorted(dropped.items())),
            cleaned={name: int((changes[kept] > 0).sum()) for name, changes in survey.changes.items()},
        )

    def _write_places(self, survey: Survey, documents: NDArray[np.int64]) -> None:
        columns = (survey.chunk, survey.row, survey.numbers, survey.origins)
        arrays = [pa.array(column[documents].astype(np.uint32)) for column in columns]
        with (
            complete_file(self.folder / _PLACES, self.job.staging) as partial,
            pa.OSFile(str(partial), "wb") as file,
            pa.ipc.new_file(file, _PLACES_SCHEMA) as writer,
        ):
            writer.write_batch(pa.record_batch(arrays, schema=_PLACES_SCHEMA))

    def _write_dropped(self, survey: Survey, duplicates: "_Duplicates") -> None:
        """A line for each document that was left out, in the order of the corpus."""
        indices = np.flatnonzero(duplicates.kinds != _KEPT).tolist()
        leaders = duplicates.leaders
        names = survey.names_of([*indices, *leaders[indices].tolist()])
        rows = (
            (
                int(survey.chunk[index]),
                int(survey.row[index]),
                names[index],
                _KINDS[duplicates.kinds[index]],
                f"of {names[int(leaders[index])]}",
            )
            for index in indices
        )
        with (
            complete_file(self.dropped_path, self.job.staging) as partial,
            partial.open("w", encoding="utf-8") as file,
        ):
            for _, _, name, kind, reason in heapq.merge(survey.left_out_rows(), rows):
                line = {"document": name, "kind": kind, "reason": reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _write_tokenizer(self, survey: Survey, documents: NDArray[np.int64]) -> None:
        """The given tokenizer, or one that has seen a sample of the training split alone."""
        settings = self.job.settings
        if settings.tokenizer is not None:
            tokenizer = load_tokenizer(Path(settings.tokenizer))
        else:
            drawn = documents[np.argsort(mix(survey.names[documents], settings.seed + 1), kind="stable")]
            before = np.cumsum(survey.words[drawn]) - survey.words[drawn]
            sample = np.sort(drawn[before < settings.tokenizer_words])
            tokenizer = train_tokenizer(_paragraphs(survey, sample), settings.vocab_size)
        with complete_file(self.tokenizer_path, self.job.staging) as partial:
            partial.write_bytes(tokenizer_json(tokenizer))


def _find_duplicates(survey: Survey, dropped: str) -> _Duplicates:
    """Duplicates that are `dropped`: exact ones, near ones too, or none."""
    near, same, index = survey.near_duplicates(), survey.same_text(), np.arange(len(survey))
    is_exact = (same != index) & (dropped != "none")
    is_near = (near != index) & ~is_exact & (dropped == "near")
    kinds = np.select([is_exact, is_near], [_EXACT, _NEAR], _KEPT)
    return _Duplicates(kinds, np.where(is_exact, same, near), near, same)


def _sources(details: list[ChunkDetails]) -> Iterator[Source]:
    """The sources with what was read from them; the last chunk of each names it."""
    documents = 0
    for item in details:
        documents += item.documents
        if item.source is not None:
            yield item.source.model_copy(update={"documents": documents})
            documents = 0


def _paragraphs(survey: Survey, documents: NDArray[np.int64]) -> Iterator[str]:
    for number, span in runs(survey.chunk[documents]):
        for document in read_documents(survey.chunks[number], survey.row[documents[span]]):
            yield from document.paragraphs


def make_blocks(
    splits: NDArray[np.uint8], characters: NDArray[np.int64], words: NDArray[np.int64], size: int
) -> Iterator[Block]:
    """Ranges of documents of a split, each of about `size` characters; a short last one joins the one before.

    Args:
        splits: [N] ascending.
        characters: [N] of each document.
        words: [N] of each document.
        size: characters of a block.
    """
    for split in range(len(SPLITS)):
        first, last = np.searchsorted(splits, [split, split + 1])
        if first == last:
            continue
        length = characters[first:last].astype(np.int64)
        number = (np.cumsum(length) - length) // size
        if len(number) and number[-1] and length[number == number[-1]].sum() < size / 2:
            number[number == number[-1]] = number[number < number[-1]][-1]
        cuts = np.flatnonzero(np.diff(number, prepend=-1)) + first
        for start, end in zip(cuts, [*cuts[1:], last], strict=True):
            total = int(words[start:end].sum())
            yield Block(split=SPLITS[split], first=int(start), last=int(end), words=total)

"""The third pass: blocks of documents become sequences that have no task group yet."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer
from typing_extensions import override

from data_prep.durable import complete_file
from data_prep.passes.groups import patterns
from data_prep.passes.job import Job
from data_prep.passes.planning import PlannedDocument, PlanningPass
from data_prep.passes.work import Pass, Report, Worker
from data_prep.schema import Record, arrow_schema
from data_prep.sequences.packed import packed_sequences
from data_prep.sequences.pairs import PairBuilder
from data_prep.sequences.pieces import EncodedDocument, encode_document
from data_prep.sequences.sequence import EncodedSequence
from data_prep.sequences.tokenizer import highest_id, load_tokenizer
from data_prep.shards.writing import ROWS_PER_BATCH, record_batches
from data_prep.tagging.tagger import Tagger

TASK_WORDS = "task_words"
"""Column of a block beside those of a shard: words of each task in a sequence."""
_DETAILS = b"data_prep"
_WORDS_PER_REPORT = 20_000


class BlockDetails(Record):
    """What a block says of itself: how many of its sequences have each pattern, in hexadecimal digits."""

    patterns: dict[str, int]


@dataclass(frozen=True)
class BlocksPass(Pass):
    """Task number i prepares block number i of the plan."""

    job: Job
    planning: PlanningPass
    name: ClassVar[str] = "tagging"

    @property
    @override
    def folder(self) -> Path:
        return self.job.work / "blocks"

    def path(self, task: int) -> Path:
        """The file of a block."""
        return self.folder / f"{task:06d}.arrow"

    @override
    def is_done(self, task: int) -> bool:
        return self.path(task).is_file()

    @override
    def worker(self) -> Worker:
        # One thread each: workers are processes, and sums in another order would be other bytes.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        settings = self.job.settings
        tagger = Tagger(settings.tagger, self.job.fingerprint.tag_map, settings.device)
        tokenizer = load_tokenizer(self.planning.tokenizer_path)
        plan = self.planning.plan()

        def prepare(task: int, report: Report) -> None:
            planned = list(self.planning.documents(plan, plan.blocks[task]))
            encoded = list(_encode(planned, tagger, tokenizer, report))
            sequences = self._sequences(encoded, tokenizer, task)
            with complete_file(self.path(task), self.job.staging) as partial:
                _write(partial, sequences, highest_id(tokenizer) + 1, len(self.job.task_names))

        return prepare

    def _sequences(
        self, encoded: list[tuple[EncodedDocument, int]], tokenizer: Tokenizer, task: int
    ) -> list[EncodedSequence]:
        settings = self.job.settings
        documents = [document for document, _ in encoded]
        if not settings.next_sentence:
            return list(packed_sequences(documents, tokenizer, settings.sequence_length))
        origins = np.array([origin for _, origin in encoded], np.int64)
        seed = (settings.seed, task)
        return list(PairBuilder(documents, origins, tokenizer, settings.sequence_length, seed))


def read_block_details(path: Path) -> BlockDetails:
    """What a block says of itself."""
    with pa.memory_map(str(path)) as file:
        return BlockDetails.model_validate_json(pa.ipc.open_file(file).schema.metadata[_DETAILS])


def read_task_words(path: Path, num_tasks: int) -> NDArray[np.uint16]:
    """[N, T] words of each task in each sequence of a block."""
    with pa.memory_map(str(path)) as file:
        column = pa.ipc.open_file(file).read_all()[TASK_WORDS]
        parts = [chunk.flatten().to_numpy().reshape(-1, num_tasks) for chunk in column.chunks]
        return np.concatenate([*parts, np.empty((0, num_tasks), np.uint16)])


def read_sequences(path: Path) -> pa.Table:
    """The sequences of a block with the columns of a shard, memory-mapped."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    return table.drop_columns([TASK_WORDS]).replace_schema_metadata(None)


def _encode(
    planned: list[PlannedDocument], tagger: Tagger, tokenizer: Tokenizer, report: Report
) -> Iterator[tuple[EncodedDocument, int]]:
    words = 0
    tagged = tagger.tag(item.document for item in planned)
    for item, (document, paragraphs) in zip(planned, tagged, strict=True):
        encoded = encode_document(tokenizer, document.doc_id, paragraphs)
        if len(encoded):
            yield encoded, item.origin
        words += item.words
        if words >= _WORDS_PER_REPORT:
            report({"words": words})
            words = 0
    report({"words": words})


def _write(path: Path, sequences: list[EncodedSequence], vocab_size: int, num_tasks: int) -> None:
    task_words = np.array([row.task_words(num_tasks) for row in sequences], np.uint16)
    task_words = task_words.reshape(len(sequences), num_tasks)
    counts = Counter(pattern.hex() for pattern in patterns(task_words))
    details = BlockDetails(patterns=dict(sorted(counts.items())))
    extra = pa.field(TASK_WORDS, pa.list_(pa.uint16(), num_tasks))
    schema = arrow_schema(vocab_size).append(extra)
    schema = schema.with_metadata({_DETAILS: details.model_dump_json().encode()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for number, batch in enumerate(record_batches(sequences, vocab_size)):
            rows = task_words[number * ROWS_PER_BATCH :][: batch.num_rows]
            column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), num_tasks)
            writer.write_batch(pa.record_batch([*batch.columns, column], schema=schema))

"""Stored sequences read back: memory-mapped, so that only what is asked for leaves the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import TOKENIZER, Manifest, Shard, arrow_schema


@dataclass(frozen=True)
class SequenceRow:
    """One stored sequence of n pieces; the arrays are [n]."""

    input_ids: NDArray
    token_type_ids: NDArray
    task_ids: NDArray
    word_ids: NDArray
    next_sentence_label: int
    doc_id: tuple[str, ...]
    """The document of each segment."""

    def __len__(self) -> int:
        return len(self.input_ids)


class SequenceTable:
    """The rows of several shards, read from disk as they are asked for.

    Args:
        folder: where the manifest lies.
        manifest: its content.
        shards: those of its entries that are read.

    Raises:
        UserError: a shard is missing, or is not what the manifest describes.
    """

    def __init__(self, folder: Path, manifest: Manifest, shards: Sequence[Shard]) -> None:
        schema = arrow_schema(manifest.vocab_size)
        self.batches = [batch for shard in shards for batch in _open(folder, shard, schema)]
        self._ends = np.cumsum([batch.num_rows for batch in self.batches])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> SequenceRow:
        number = int(np.searchsorted(self._ends, index, side="right"))
        batch = self.batches[number]
        row = index - int(self._ends[number]) + batch.num_rows
        ids, types, tasks, words = (batch.column(i)[row].values.to_numpy() for i in range(4))
        return SequenceRow(
            input_ids=ids,
            token_type_ids=types,
            task_ids=tasks,
            word_ids=words,
            next_sentence_label=batch.column(4)[row].as_py(),
            doc_id=tuple(batch.column(5)[row].as_py()),
        )

    def lengths(self) -> NDArray[np.int64]:
        """[rows] pieces of each sequence."""
        offsets = [np.diff(batch.column(0).offsets.to_numpy()) for batch in self.batches]
        return np.concatenate([np.empty(0, np.int64), *offsets]).astype(np.int64)

    def piece_counts(self, num_tasks: int, vocab_size: int) -> NDArray[np.int64]:
        """[num_tasks, vocab_size] how often each piece stands in a word of each task."""
        counts = np.zeros(num_tasks * vocab_size, np.int64)
        for batch in self.batches:
            ids = batch.column(0).flatten().to_numpy().astype(np.int64)
            tasks = batch.column(2).flatten().to_numpy().astype(np.int64)
            kept = tasks < num_tasks
            counts += np.bincount(tasks[kept] * vocab_size + ids[kept], minlength=len(counts))
        return counts.reshape(num_tasks, vocab_size)


def read_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer of a folder of shards.

    Raises:
        UserError: it is missing, or not the one that the manifest describes.
    """
    path = folder / TOKENIZER
    if not path.is_file() or sha256_file(path) != manifest.tokenizer.sha256:
        raise UserError(f"{path}: not the tokenizer that the manifest describes; prepare the shards again")
    return Tokenizer.from_file(str(path))


def read_batches(path: Path) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """The schema of an Arrow IPC stream, and its record batches, mapped into memory.

    Raises:
        pyarrow.ArrowInvalid, OSError: not such a stream.
    """
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    return table.schema, table.to_batches()


def _open(folder: Path, shard: Shard, schema: pa.Schema) -> list[pa.RecordBatch]:
    path = folder / shard.path
    if not path.is_file():
        raise UserError(f"{path}: the manifest lists this shard, but it is missing; prepare the shards again")
    try:
        found, batches = read_batches(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Arrow stream ({error}); prepare the shards again") from error
    if found != schema or sum(batch.num_rows for batch in batches) != shard.rows:
        raise UserError(f"{path}: not the shard that the manifest describes; prepare the shards again")
    return batches

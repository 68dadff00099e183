"""Reading of what data_prep wrote: memory-mapped, checked against the manifest."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import TOKENIZER, Manifest, Shard, arrow_schema, read_manifest


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
    """The rows of several shards, read from disk as they are asked for."""

    def __init__(self, folder: Path, manifest: Manifest, shards: list[Shard]) -> None:
        schema = arrow_schema(manifest.vocab_size)
        self._batches = [batch for shard in shards for batch in _open(folder, shard, schema)]
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> SequenceRow:
        number = int(np.searchsorted(self._ends, index, side="right"))
        batch = self._batches[number]
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

    def piece_counts(self, num_tasks: int, vocab_size: int) -> NDArray[np.int64]:
        """[num_tasks, vocab_size] how often each piece stands in a word of each task."""
        counts = np.zeros(num_tasks * vocab_size, np.int64)
        for batch in self._batches:
            ids = batch.column(0).flatten().to_numpy().astype(np.int64)
            tasks = batch.column(2).flatten().to_numpy().astype(np.int64)
            kept = tasks < num_tasks
            counts += np.bincount(tasks[kept] * vocab_size + ids[kept], minlength=len(counts))
        return counts.reshape(num_tasks, vocab_size)


class Shards:
    """A folder of shards: manifest, tokenizer, tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        path = folder / TOKENIZER
        if not path.is_file() or sha256_file(path) != self.manifest.tokenizer.sha256:
            raise UserError(
                f"{path}: not the tokenizer that the manifest describes; prepare the shards again"
            )
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(path))
        self.pad_id = self._special_id("[PAD]")
        self.mask_id = self._special_id("[MASK]")

    def _special_id(self, special: str) -> int:
        found = self.tokenizer.token_to_id(special)
        assert found is not None, f"data_prep writes no tokenizer without {special}"
        return found

    @property
    def task_names(self) -> list[str]:
        """The masked-word tasks, in the order of their ids."""
        return self.manifest.task_names

    @cached_property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """Ids of all pieces that are not specials; a tokenizer taken from elsewhere may leave ids out."""
        specials = [i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special]
        return np.setdiff1d(list(self.tokenizer.get_vocab().values()), specials)

    def train_table(self, task: str) -> SequenceTable:
        """A task group."""
        return SequenceTable(self.folder, self.manifest, self.manifest.shards_of("train", task))

    def piece_counts(self) -> NDArray[np.int64]:
        """[T, V] how often each piece stands in a word of each task, in all training sequences."""
        num_tasks, vocab_size = len(self.task_names), self.manifest.vocab_size
        return sum(
            (self.train_table(task).piece_counts(num_tasks, vocab_size) for task in self.task_names),
            np.zeros((num_tasks, vocab_size), np.int64),
        )


def _open(folder: Path, shard: Shard, schema: pa.Schema) -> list[pa.RecordBatch]:
    path = folder / shard.path
    if not path.is_file():
        raise UserError(f"{path}: the manifest lists this shard, but it is missing; prepare the shards again")
    try:
        with pa.memory_map(str(path)) as file:
            table = pa.ipc.open_stream(file).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Arrow stream ({error}); prepare the shards again") from error
    if table.schema != schema or table.num_rows != shard.rows:
        raise UserError(f"{path}: not the shard that the manifest describes; prepare the shards again")
    return table.to_batches()

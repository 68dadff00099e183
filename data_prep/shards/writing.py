"""Sequences become Arrow IPC stream files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.durable import sha256_file
from data_prep.schema import Shard, Split, arrow_schema
from data_prep.sequences.pairs import PairedSequence

ROWS_PER_SHARD = 65_536
_ROWS_PER_RECORD_BATCH = 1_024


def write_shards(
    folder: Path,
    split: Split,
    task: str | None,
    sequences: Sequence[PairedSequence],
    task_names: Sequence[str],
    vocab_size: int,
) -> Iterator[Shard]:
    """Write a split, or a task group of the training split, below `folder`; yield its manifest entries."""
    target = Path(split) / task if task else Path(split)
    (folder / target).mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(sequences), ROWS_PER_SHARD)):
        rows = sequences[first : first + ROWS_PER_SHARD]
        path = target / f"shard-{number:05d}.arrow"
        _write_stream(folder / path, rows, arrow_schema(vocab_size))
        words = np.sum([row.task_words(len(task_names)) for row in rows], axis=0)
        yield Shard(
            path=path.as_posix(),
            split=split,
            task=task,
            rows=len(rows),
            tokens=sum(len(row) for row in rows),
            task_words=dict(zip(task_names, map(int, words), strict=True)),
            sha256=sha256_file(folder / path),
        )


def _write_stream(path: Path, rows: Sequence[PairedSequence], schema: pa.Schema) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for first in range(0, len(rows), _ROWS_PER_RECORD_BATCH):
            part = rows[first : first + _ROWS_PER_RECORD_BATCH]
            columns = [
                pa.array([getattr(row, field.name) for row in part], type=field.type) for field in schema
            ]
            stream.write_batch(pa.record_batch(columns, schema=schema))

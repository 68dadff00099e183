"""Sequences become columns of an Arrow file."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.schema import arrow_schema
from data_prep.sequences.sequence import EncodedSequence

ROWS_PER_BATCH = 1_024


def record_batches(sequences: Sequence[EncodedSequence], vocab_size: int) -> Iterator[pa.RecordBatch]:
    """The sequences as record batches of a shard."""
    schema = arrow_schema(vocab_size)
    for first in range(0, len(sequences), ROWS_PER_BATCH):
        rows = sequences[first : first + ROWS_PER_BATCH]
        names = [row.doc_id for row in rows]
        columns = [
            _lists([row.input_ids for row in rows], schema.field("input_ids").type),
            _lists([row.token_type_ids for row in rows], schema.field("token_type_ids").type),
            _lists([row.task_ids for row in rows], schema.field("task_ids").type),
            _lists([row.word_ids for row in rows], schema.field("word_ids").type),
            pa.array([row.next_sentence_label for row in rows], schema.field("next_sentence_label").type),
            pa.array(names, schema.field("doc_id").type),
        ]
        yield pa.record_batch(columns, schema=schema)


def _lists(arrays: list[NDArray], list_type: pa.ListType) -> pa.ListArray:
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    values = np.concatenate(arrays).astype(list_type.value_type.to_pandas_dtype(), copy=False)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), type=list_type)

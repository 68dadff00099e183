"""Held-out text with fixed masks: what is masked depends on no run file."""

import hashlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.errors import UserError
from data_prep.schema import NO_LABEL, NO_TASK
from data_prep.shards.masking import draw_masked
from data_prep.shards.reading import SequenceTable
from pipeline.data.interface import HeldOutBatch
from pipeline.data.shards import Shards
from pipeline.data.text_batch import TextBatch, empty_inputs
from pipeline.data.text_terms import NSP

_EVALUATION_STREAM = 3
"""Keeps these random numbers apart from those of the training masks."""
_RATE = 0.15
_BATCH_SIZE = 64
_PAIR_QUERY = -1
"""Stands for next-sentence prediction among the task ids of queries."""


class HeldOutText:
    """A held-out split: each task on every sequence that holds it, with fixed masks.

    Args:
        shards: where the split lies.
        split: its name.
        with_nsp: whether next-sentence prediction is scored too.
        num_samples: take only so many sequences, spread evenly over the split; 0 is all.
        num_masks: mask each sequence so many times for each task, no word twice; fewer times where its words
            of the task do not suffice. A rare task is predicted more often then.
    """

    def __init__(
        self, shards: Shards, split: str, *, with_nsp: bool, num_samples: int = 0, num_masks: int = 1
    ) -> None:
        entries = [entry for entry in shards.manifest.shards if entry.split == split]
        self._table = SequenceTable(shards.folder, shards.manifest, entries)
        if not len(self._table):
            raise UserError(f"{shards.folder}: no sequences in the {split} split; prepare more text")
        self._shards = shards
        total = len(self._table)
        taken = min(num_samples or total, total)
        self._indices = [number * total // taken for number in range(taken)]
        self.task_names = shards.task_names
        self.term_names = (*shards.task_names, *([NSP] if with_nsp else []))
        names: dict[str, int] = {}
        self._clusters = {
            index: np.array([names.setdefault(name, len(names)) for name in self._table[index].doc_id])
            for index in self._indices
        }
        self.num_clusters = len(names)
        self._queries = list(self._make_queries(with_nsp, num_masks))

    @cached_property
    def mask_hash(self) -> str:
        """SHA-256 over (sequence, task, masked positions)."""
        digest = hashlib.sha256()
        for row, task, positions in self._queries:
            if task != _PAIR_QUERY:
                digest.update(np.array([row, task, len(positions), *positions], np.int64).tobytes())
        return digest.hexdigest()

    def batches(self, rank: int = 0, world_size: int = 1) -> Iterator[HeldOutBatch]:
        """This rank's batches, round-robin; equally many on every rank."""
        num_batches = -(-len(self._queries) // _BATCH_SIZE)
        rounds = -(-num_batches // world_size)
        for number in range(rank, rounds * world_size, world_size):
            first = number * _BATCH_SIZE
            yield self._batch(self._queries[first : first + _BATCH_SIZE])

    def masked_pieces(self) -> Iterator[tuple[int, NDArray]]:
        """(task, ids of the masked pieces) of every task on every sequence that holds it."""
        for index, task, positions in self._queries:
            if task != _PAIR_QUERY:
                yield task, self._table[index].input_ids[positions]

    def _make_queries(self, with_nsp: bool, num_masks: int) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """(sequence, task, masked positions); for next-sentence prediction nothing is masked."""
        for index in self._indices:
            row = self._table[index]
            for task in np.unique(row.task_ids[row.task_ids != NO_TASK]):
                random = np.random.default_rng([_EVALUATION_STREAM, index, int(task)])
                left = row.task_ids == task
                for _ in range(num_masks):
                    if not left.any():
                        break
                    positions = draw_masked(row.word_ids, left, _RATE, random)
                    left[positions] = False
                    yield index, int(task), positions
            if with_nsp:
                yield index, _PAIR_QUERY, np.empty(0, np.int64)

    def _batch(self, queries: list[tuple[int, int, NDArray[np.int64]]]) -> HeldOutBatch:
        if not queries:
            none = torch.empty(0, dtype=torch.long)
            return HeldOutBatch(empty_inputs(self._shards.pad_id), none, none)
        rows = TextBatch(self._shards.pad_id)
        words: list[NDArray] = []  # the document of each masked piece, then of each pair
        pairs: list[int] = []
        for index, task, positions in queries:
            row = self._table[index]
            ids = row.input_ids.astype(np.int64)
            ids[positions] = self._shards.mask_id
            label = row.next_sentence_label if task == _PAIR_QUERY else NO_LABEL
            rows.add(row, ids, positions, np.full(len(positions), task, np.int64), label)
            segments = np.cumsum(row.input_ids == self._shards.sep_id)
            words.append(self._clusters[index][segments[positions]])
            if task == _PAIR_QUERY:
                pairs.append(self._clusters[index][0])
        clusters = np.concatenate([*words, np.array(pairs, np.int64)])
        inputs = rows.tensors()
        pair_terms = torch.full((len(pairs),), len(self.task_names))
        terms = torch.cat([inputs["loss_tasks"], pair_terms])
        return HeldOutBatch(inputs, terms, torch.from_numpy(clusters))

"""Text for the engine: masked micro-batches of the task groups, and held-out splits with fixed masks."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from data_prep.durable import sha256_file
from data_prep.errors import UserError, nearest
from data_prep.schema import NO_LABEL, NO_TASK, TOKENIZER, Manifest, read_manifest
from pipeline.config import BatchConfig, DataConfig, MaskingConfig, ObjectiveConfig
from pipeline.data.interface import HeldOutBatch, LossTerms, MicroBatch
from pipeline.data.masking import Corruption, draw_masked
from pipeline.data.order import StepOrder
from pipeline.data.shards import SequenceRow, SequenceTable

NSP = "nsp"
"""The loss term of next-sentence prediction."""
UNTAGGED = "untagged"
"""The loss term of masked words that belong to no task (masking.policy random); only logged."""

_MASK_STREAM, _EVALUATION_STREAM = 2, 3
_EVALUATION_RATE = 0.15
_EVALUATION_BATCH = 64
_NSP_QUERY = -1


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
        """Ids of all pieces that are not specials."""
        specials = [i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special]
        return np.setdiff1d(np.arange(self.manifest.vocab_size), specials)

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


def loss_terms(task_names: Iterable[str], masking: MaskingConfig, objective: ObjectiveConfig) -> LossTerms:
    """The masked-word tasks, then untagged words where they are masked, then next-sentence prediction."""
    terms: list[tuple[str, float | None]] = [(task, None) for task in task_names]
    if masking.policy == "random":
        terms.append((UNTAGGED, 0.0))
    if objective.nsp != "off":
        terms.append((NSP, objective.nsp_weight if objective.nsp == "auxiliary" else None))
    return LossTerms(tuple(name for name, _ in terms), tuple(weight for _, weight in terms))


class TextData:
    """Training data of text shards."""

    def __init__(
        self,
        shards: Shards,
        data: DataConfig,
        masking: MaskingConfig,
        objective: ObjectiveConfig,
        batch: BatchConfig,
        seed: int,
    ) -> None:
        self.shards = shards
        self.terms = loss_terms(shards.task_names, masking, objective)
        self._masking = masking
        self._batch = batch
        self._seed = seed
        self._nsp = NSP in self.terms.names
        self._corruption = Corruption(masking.corruption, shards.mask_id, shards.ordinary_ids)
        self._groups = [shards.train_table(task) for task in shards.task_names]
        sizes = [len(group) for group in self._groups]
        quotas = task_quotas(data.quota, shards.manifest)
        self._order = StepOrder(sizes, quotas, batch.global_size, seed)

    @property
    def absent_tasks(self) -> list[str]:
        """Tasks without a training sequence."""
        names = zip(self.shards.task_names, self._groups, strict=True)
        return [task for task, group in names if not len(group)]

    def micro_batch(self, step: int, index: int) -> MicroBatch:
        """Micro-batch `index` of step `step`: a pure function of them and the seed."""
        first = index * self._batch.micro_size
        picked = self._order.step(step)[first : first + self._batch.micro_size]
        random = np.random.default_rng([self._seed, _MASK_STREAM, step, index])
        rows = _Rows(self.shards.pad_id)
        for task, place in picked:
            row = self._groups[task][place]
            positions = draw_masked(row.word_ids, self._eligible(row, task), self._masking.rate, random)
            ids = row.input_ids.astype(np.int64)
            self._corruption.apply(ids, positions, random)
            label = row.next_sentence_label if self._nsp else NO_LABEL
            rows.add(row, ids, positions, self._loss_tasks(row.task_ids[positions]), label)
        inputs = rows.tensors()
        return MicroBatch(inputs, self._counts(inputs), len(picked), rows.num_tokens)

    def empty_micro_batch(self) -> MicroBatch:
        """One padded sequence without a label."""
        inputs = _empty_inputs(self.shards.pad_id)
        return MicroBatch(inputs, self._counts(inputs), 0, 0)

    def held_out(self, split: str) -> "HeldOutText":
        """A held-out split with its fixed masks."""
        return HeldOutText(self.shards, split, with_nsp=self._nsp)

    def companion_files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return {TOKENIZER: (self.shards.folder / TOKENIZER).read_bytes()}

    def _eligible(self, row: SequenceRow, task: int) -> NDArray[np.bool_]:
        if self._masking.policy == "group":
            return row.task_ids == task
        return np.ones(len(row), bool)

    def _loss_tasks(self, task_ids: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The loss term of each masked piece; words without a task go to the term after the tasks."""
        num_tasks = len(self.shards.task_names)
        return np.where(task_ids == NO_TASK, num_tasks, task_ids).astype(np.int64)

    def _counts(self, inputs: dict[str, Tensor]) -> Tensor:
        counts = torch.bincount(inputs["loss_tasks"], minlength=len(self.terms))
        if self._nsp:
            counts[self.terms.names.index(NSP)] = (inputs["next_sentence_label"] != NO_LABEL).sum()
        return counts


class HeldOutText:
    """A held-out split: each task on every sequence that holds it, with fixed masks."""

    def __init__(self, shards: Shards, split: str, *, with_nsp: bool) -> None:
        entries = [entry for entry in shards.manifest.shards if entry.split == split]
        self._table = SequenceTable(shards.folder, shards.manifest, entries)
        if not len(self._table):
            raise UserError(f"{shards.folder}: no sequences in the {split} split; prepare more text")
        self._shards = shards
        names: dict[str, int] = {}
        self._clusters = [names.setdefault(row.doc_id, len(names)) for row in self._table_rows()]
        self.num_clusters = len(names)
        self._queries = list(self._make_queries(with_nsp))

    @property
    def num_batches(self) -> int:
        """Batches in all."""
        return -(-len(self._queries) // _EVALUATION_BATCH)

    @cached_property
    def mask_hash(self) -> str:
        """SHA-256 over (sequence, task, masked positions)."""
        digest = hashlib.sha256()
        for row, task, positions in self._queries:
            if task != _NSP_QUERY:
                digest.update(np.array([row, task, len(positions), *positions], np.int64).tobytes())
        return digest.hexdigest()

    def batches(self, rank: int = 0, world_size: int = 1) -> Iterator[HeldOutBatch]:
        """This rank's batches, round-robin; equally many on every rank."""
        rounds = -(-self.num_batches // world_size)
        for number in range(rank, rounds * world_size, world_size):
            first = number * _EVALUATION_BATCH
            yield self._batch(self._queries[first : first + _EVALUATION_BATCH])

    def masked_pieces(self) -> Iterator[tuple[int, NDArray]]:
        """(task, ids of the masked pieces) of every task on every sequence that holds it."""
        for index, task, positions in self._queries:
            if task != _NSP_QUERY:
                yield task, self._table[index].input_ids[positions]

    def _table_rows(self) -> Iterator[SequenceRow]:
        return (self._table[index] for index in range(len(self._table)))

    def _make_queries(self, with_nsp: bool) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """(sequence, task, masked positions); for next-sentence prediction nothing is masked."""
        for index, row in enumerate(self._table_rows()):
            for task in np.unique(row.task_ids[row.task_ids != NO_TASK]):
                random = np.random.default_rng([_EVALUATION_STREAM, index, int(task)])
                yield (
                    index,
                    int(task),
                    draw_masked(row.word_ids, row.task_ids == task, _EVALUATION_RATE, random),
                )
            if with_nsp:
                yield index, _NSP_QUERY, np.empty(0, np.int64)

    def _batch(self, queries: list[tuple[int, int, NDArray[np.int64]]]) -> HeldOutBatch:
        if not queries:
            return HeldOutBatch(_empty_inputs(self._shards.pad_id), torch.zeros(1, dtype=torch.long))
        rows = _Rows(self._shards.pad_id)
        for index, task, positions in queries:
            row = self._table[index]
            ids = row.input_ids.astype(np.int64)
            ids[positions] = self._shards.mask_id
            label = row.next_sentence_label if task == _NSP_QUERY else NO_LABEL
            rows.add(row, ids, positions, np.full(len(positions), task, np.int64), label)
        return HeldOutBatch(rows.tensors(), torch.tensor([self._clusters[index] for index, *_ in queries]))


class _Rows:
    """Collects masked sequences and pads them to the longest."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id
        self._rows: list[tuple[SequenceRow, NDArray, NDArray, NDArray, int]] = []

    @property
    def num_tokens(self) -> int:
        return sum(len(row) for row, *_ in self._rows)

    def add(
        self,
        row: SequenceRow,
        ids: NDArray,
        positions: NDArray,
        loss_tasks: NDArray,
        next_sentence_label: int,
    ) -> None:
        """Add a sequence: `ids` [n] as the model sees it; `positions`, `loss_tasks` [m] of masked pieces."""
        self._rows.append((row, ids, positions, loss_tasks, next_sentence_label))

    def tensors(self) -> dict[str, Tensor]:
        """Inputs [B, L]; for the N masked pieces of all rows `masked_positions` in the flattened [B·L],
        `labels` and `loss_tasks` [N]; `next_sentence_label` [B].
        """
        length = max(len(row) for row, *_ in self._rows)
        shape = (len(self._rows), length)
        ids = np.full(shape, self._pad_id, np.int64)
        types = np.zeros(shape, np.int64)
        attended = np.zeros(shape, np.int64)
        positions, labels = [], []
        for number, (row, corrupted, masked, _, _) in enumerate(self._rows):
            ids[number, : len(row)] = corrupted
            types[number, : len(row)] = row.token_type_ids
            attended[number, : len(row)] = 1
            positions.append(masked + number * length)
            labels.append(row.input_ids[masked].astype(np.int64))
        return {
            "input_ids": torch.from_numpy(ids),
            "token_type_ids": torch.from_numpy(types),
            "attention_mask": torch.from_numpy(attended),
            "masked_positions": torch.from_numpy(np.concatenate(positions)),
            "labels": torch.from_numpy(np.concatenate(labels)),
            "loss_tasks": torch.from_numpy(np.concatenate([tasks for *_, tasks, _ in self._rows])),
            "next_sentence_label": torch.tensor([label for *_, label in self._rows]),
        }


def task_quotas(quota: str | dict[str, int], manifest: Manifest) -> list[int]:
    """Relative number of sequences per task; 0 for a task without training sequences.

    Raises:
        UserError: a quota for an unknown task or for one without sequences; no task with sequences.
    """
    rows = [manifest.train_rows(task) for task in manifest.task_names]
    if not any(rows):
        raise UserError("the shards hold no training sequence; prepare more text")
    if quota == "uniform":
        return [int(count > 0) for count in rows]
    if quota == "proportional":
        return [manifest.train_words(task) for task in manifest.task_names]
    assert isinstance(quota, dict)
    for task, number in quota.items():
        if task not in manifest.task_names:
            raise UserError(f'data.quota: unknown task "{task}"{nearest(task, manifest.task_names)}')
        if number and not manifest.train_rows(task):
            raise UserError(f"data.quota: {number} sequences of {task}, but its group is empty; set it to 0")
    return [quota.get(task, 0) for task in manifest.task_names]


def _empty_inputs(pad_id: int) -> dict[str, Tensor]:
    none = torch.empty(0, dtype=torch.long)
    return {
        "input_ids": torch.full((1, 1), pad_id),
        "token_type_ids": torch.zeros(1, 1, dtype=torch.long),
        "attention_mask": torch.ones(1, 1, dtype=torch.long),
        "masked_positions": none,
        "labels": none,
        "loss_tasks": none,
        "next_sentence_label": torch.tensor([NO_LABEL]),
    }

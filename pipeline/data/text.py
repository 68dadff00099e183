"""Text for the engine: masked micro-batches of the task groups."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.errors import UserError, nearest
from data_prep.schema import NO_LABEL, TOKENIZER, Manifest
from data_prep.shards.masking import Corruption, draw_masked
from data_prep.shards.reading import SequenceRow
from pipeline.config import BatchConfig, DataConfig, MaskingConfig, ObjectiveConfig
from pipeline.data.interface import MicroBatch
from pipeline.data.order import StepOrder
from pipeline.data.shards import Shards
from pipeline.data.text_batch import TextBatch, empty_inputs
from pipeline.data.text_held_out import HeldOutText
from pipeline.data.text_terms import NSP, loss_terms
from pipeline.data.word_tasks import word_tasks

_MASK_STREAM = 2
"""Keeps the masks' random numbers apart from those of the data order and of dropout."""


class TextData:
    """Training data of text shards.

    Which sequences there are, and how they are found, is a matter of the shards' task groups; which loss a
    masked piece counts for, one of the tasks of training (`data.tasks`).
    """

    def __init__(
        self,
        shards: Shards,
        data: DataConfig,
        masking: MaskingConfig,
        objective: ObjectiveConfig,
        batch: BatchConfig,
        seed: int,
    ) -> None:
        check_next_sentence(shards, objective)
        self._made_of = (shards, data, masking, objective, batch, seed)
        self.shards = shards
        self.word_tasks = word_tasks(data, shards)
        self.terms = loss_terms(self.word_tasks.names, masking, objective)
        self._masking = masking
        self._batch = batch
        self._seed = seed
        self._nsp = NSP in self.terms.names
        self._corruption = Corruption(masking.corruption, shards.mask_id, shards.ordinary_ids)
        self._groups = [shards.train_table(task) for task in shards.task_names]
        sizes = [len(group) for group in self._groups]
        quotas = task_quotas(data.quota, shards.manifest)
        self._order = StepOrder(sizes, quotas, batch.global_size, seed)

    def __reduce__(self) -> tuple[type["TextData"], tuple[Any, ...]]:
        return TextData, self._made_of

    @property
    def absent_tasks(self) -> list[str]:
        """Tasks without a training sequence; none where a file says what the tasks are."""
        if not self.word_tasks.are_the_shards:
            return []
        names = zip(self.shards.task_names, self._groups, strict=True)
        return [task for task, group in names if not len(group)]

    def micro_batch(self, step: int, index: int) -> MicroBatch:
        """Micro-batch `index` of step `step`: a pure function of them and the seed."""
        random = np.random.default_rng([self._seed, _MASK_STREAM, step, index])
        rows = TextBatch(self.shards.pad_id)
        for task, place in self._picked(step, index):
            row = self._groups[task][place]
            positions = draw_masked(row.word_ids, self._eligible(row, task), self._masking.rate, random)
            ids = row.input_ids.astype(np.int64)
            self._corruption.apply(ids, positions, random)
            label = row.next_sentence_label if self._nsp else NO_LABEL
            terms = self.word_tasks.loss_terms(row.input_ids[positions], row.task_ids[positions])
            rows.add(row, ids, positions, terms, label)
        inputs = rows.tensors()
        return MicroBatch(inputs, self._counts(inputs), rows.num_tokens)

    def empty_micro_batch(self) -> MicroBatch:
        """One padded sequence without a label."""
        inputs = empty_inputs(self.shards.pad_id)
        return MicroBatch(inputs, self._counts(inputs), 0)

    def sequence_ids(self, step: int, index: int) -> list[str]:
        """Task group and row of each sequence, as in noun/123."""
        names = self.shards.task_names
        return [f"{names[task]}/{place}" for task, place in self._picked(step, index)]

    def held_out(self, split: str, num_samples: int) -> HeldOutText:
        """A held-out split with its fixed masks, or `num_samples` of its sequences if that is not 0."""
        return HeldOutText(self.shards, split, with_nsp=self._nsp, num_samples=num_samples)

    def companion_files(self) -> dict[str, bytes]:
        """The tokenizer."""
        return {TOKENIZER: (self.shards.folder / TOKENIZER).read_bytes()}

    def _picked(self, step: int, index: int) -> list[tuple[int, int]]:
        """Task and row of the sequences of a micro-batch."""
        return self._order.part(step, index * self._batch.micro_size, self._batch.micro_size)

    def _eligible(self, row: SequenceRow, task: int) -> NDArray[np.bool_]:
        if self._masking.policy == "group":
            return row.task_ids == task
        return np.ones(len(row), bool)

    def _counts(self, inputs: dict[str, Tensor]) -> Tensor:
        counts = torch.bincount(inputs["loss_tasks"], minlength=len(self.terms))
        if self._nsp:
            counts[self.terms.names.index(NSP)] = (inputs["next_sentence_label"] != NO_LABEL).sum()
        return counts


def check_next_sentence(shards: Shards, objective: ObjectiveConfig) -> None:
    """Raise UserError where next-sentence prediction is asked for, and the shards have no labels for it."""
    if objective.nsp != "off" and not shards.manifest.next_sentence:
        raise UserError(
            f"{shards.folder}: no next-sentence labels in these shards; set objective.nsp=off, or "
            "prepare them with data_prep text ... --nsp"
        )


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

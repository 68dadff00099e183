"""What the engine asks of data. It knows neither text nor images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossTerms:
    """The losses that a model returns, in order: the tasks of the objective, and losses of fixed weight.

    A task is a term without a fixed weight. A fixed weight of 0 makes a term that is only logged, unless it
    is the one of labels that belong to no task, which some objectives train.
    """

    names: tuple[str, ...]
    fixed_weights: tuple[float | None, ...]
    untasked: str | None = None
    """The term of labels that belong to no task, if there is one."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The terms that the objective weighs."""
        return tuple(
            name for name, weight in zip(self.names, self.fixed_weights, strict=True) if weight is None
        )

    @property
    def task_indices(self) -> list[int]:
        """Where the tasks stand among the M terms."""
        return [index for index, weight in enumerate(self.fixed_weights) if weight is None]

    @property
    def is_task(self) -> Tensor:
        """[M] bool."""
        return torch.tensor([weight is None for weight in self.fixed_weights])

    @property
    def is_untasked(self) -> Tensor:
        """[M] bool, true at the term of labels that belong to no task, if there is one."""
        return torch.tensor([name == self.untasked for name in self.names])

    @property
    def fixed(self) -> Tensor:
        """[M] fixed weights, 0 at tasks."""
        return torch.tensor([weight or 0.0 for weight in self.fixed_weights])


@dataclass(frozen=True)
class MicroBatch:
    """Input of one forward pass. `counts` [M] int64 are known before it: labels per loss term."""

    inputs: dict[str, Tensor]
    counts: Tensor
    num_tokens: int


@dataclass(frozen=True)
class HeldOutBatch:
    """Input of one evaluation pass, and of each of its R predictions, in the order of its labels: `terms` [R]
    what it is counted for, `clusters` [R] the number of its document, or its like.
    """

    inputs: dict[str, Tensor]
    terms: Tensor
    clusters: Tensor


class HeldOut(Protocol):
    """A held-out split with fixed masks: every task on every sample.

    Its tasks are those that checkpoints are compared by, whatever the tasks of their training were.
    """

    num_clusters: int
    term_names: tuple[str, ...]
    """What predictions are counted for: the tasks, and what is scored beside them."""
    task_names: list[str]
    """The terms that are compared across checkpoints."""

    @property
    def mask_hash(self) -> str:
        """Hash of what is masked, equal for all checkpoints that are compared."""

    def batches(self, rank: int = 0, world_size: int = 1) -> Iterator[HeldOutBatch]:
        """This rank's batches; every rank gets equally many, the last perhaps without labels."""


class MicroBatches(Protocol):
    """Micro-batches: step k, micro-batch m is a pure function of (seed, k, m)."""

    def micro_batch(self, step: int, index: int) -> MicroBatch:
        """Micro-batch `index` of step `step`, both counted from 0."""

    def empty_micro_batch(self) -> MicroBatch:
        """A batch without a label, for a rank that has none in the last round."""


class TrainData(MicroBatches, Protocol):
    """Training data. Pickled, it is a recipe: the copy opens its files by itself."""

    terms: LossTerms
    """Those of training; a held-out split has its own."""

    def sequence_ids(self, step: int, index: int) -> list[str]:
        """Names of the sequences of a micro-batch, for people who look for what is wrong with them."""

    def held_out(self, split: str, num_samples: int) -> HeldOut:
        """A held-out split, or `num_samples` of it if that is not 0."""

    def companion_files(self) -> dict[str, bytes]:
        """Files that a checkpoint needs beside the weights to be used elsewhere."""

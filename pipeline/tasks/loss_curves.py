"""How a run learned each piece: its mean loss on training sequences, checkpoint by checkpoint.

Held-out sequences are never looked at: they judge what is trained on the tasks that come of this.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.progress import progress
from data_prep.schema import NO_LABEL, NO_TASK
from data_prep.shards.masking import draw_masked
from pipeline.assembly import model_from_checkpoint
from pipeline.data.shards import Shards
from pipeline.data.text_batch import TextBatch
from pipeline.engine.checkpoint import read_manifest
from pipeline.engine.run_folder import MANIFEST, complete_checkpoints, step_of

_RATE = 0.15
_BATCH_SIZE = 64
_MASK_STREAM = 4
"""Keeps these random numbers apart from those of training and evaluation."""


@dataclass(frozen=True)
class LossCurves:
    """Sums over the labels that each of the V pieces was, at each of K checkpoints."""

    checkpoints: dict[int, str]
    """Step → SHA-256 of the checkpoint's manifest."""
    num_sequences: int
    counts: NDArray[np.int64]
    """[V] labels; the same at all checkpoints."""
    losses: NDArray[np.float64]
    """[V, K] sums of nats."""
    squares: NDArray[np.float64]
    """[V, K] sums of squared nats."""


def measure_loss_curves(run: Path, shards: Shards, num_sequences: int, seed: int) -> LossCurves:
    """Score training sequences, with the same masked words, at every checkpoint that a run has kept.

    Args:
        run: its folder.
        shards: whose training sequences are taken, spread evenly over all of them.
        num_sequences: at most so many.
        seed: decides which words are masked: of those with a task, as many as in training, by [MASK].

    Raises:
        UserError: fewer than two checkpoints, or shards that the run's model cannot read.
    """
    checkpoints = complete_checkpoints(run)
    if len(checkpoints) < 2:
        raise UserError(
            f"{run}: has {'one checkpoint' if checkpoints else 'no checkpoint'}, a curve needs two or more; "
            "keep some while it trains (checkpoint.keep_every)"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = _sample(shards, num_sequences, seed)
    labels = np.concatenate([batch["labels"].numpy() for batch in batches])
    size = shards.manifest.vocab_size
    losses, squares = (np.zeros((size, len(checkpoints))) for _ in range(2))
    shown = progress(checkpoints, desc="scoring", unit=" checkpoints", leave=False)
    for number, checkpoint in enumerate(shown):
        found = _losses(checkpoint, shards, batches, device)
        losses[:, number] = np.bincount(labels, found, minlength=size)
        squares[:, number] = np.bincount(labels, found**2, minlength=size)
    return LossCurves(
        checkpoints={step_of(path): sha256_file(path / MANIFEST) for path in checkpoints},
        num_sequences=sum(len(batch["input_ids"]) for batch in batches),
        counts=np.bincount(labels, minlength=size),
        losses=losses,
        squares=squares,
    )


def _sample(shards: Shards, num_sequences: int, seed: int) -> list[dict[str, Tensor]]:
    """Masked batches of training sequences."""
    tables = [shards.train_table(task) for task in shards.task_names]
    ends = np.cumsum([len(table) for table in tables])
    total = int(ends[-1])
    taken = min(num_sequences, total)
    indices = [number * total // taken for number in range(taken)]
    batches = []
    for first in range(0, taken, _BATCH_SIZE):
        batch = TextBatch(shards.pad_id)
        for index in indices[first : first + _BATCH_SIZE]:
            number = int(np.searchsorted(ends, index, side="right"))
            row = tables[number][index - int(ends[number]) + len(tables[number])]
            random = np.random.default_rng([seed, _MASK_STREAM, index])
            positions = draw_masked(row.word_ids, row.task_ids != NO_TASK, _RATE, random)
            ids = row.input_ids.astype(np.int64)
            ids[positions] = shards.mask_id
            batch.add(row, ids, positions, np.zeros(len(positions), np.int64), NO_LABEL)
        batches.append(batch.tensors())
    return batches


def _losses(
    checkpoint: Path, shards: Shards, batches: list[dict[str, Tensor]], device: torch.device
) -> NDArray[np.float64]:
    """Nats of each label of the batches, in their order."""
    model, recipe = model_from_checkpoint(checkpoint, read_manifest(checkpoint))
    if recipe.tokenizer_sha256 != shards.manifest.tokenizer.sha256:
        raise UserError(
            f"{checkpoint}: trained with another tokenizer than that of {shards.folder}; take a run on these "
            "shards"
        )
    if recipe.sequence_length < shards.manifest.sequence_length:
        raise UserError(
            f"{checkpoint}: trained on sequences of {recipe.sequence_length} pieces, {shards.folder} has "
            f"some of {shards.manifest.sequence_length}; take a run on these shards"
        )
    model = model.to(device)
    with torch.no_grad():
        found = [model.scores(_on(device, batch)).losses for batch in batches]
    return torch.cat(found).double().cpu().numpy()


def _on(device: torch.device, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}

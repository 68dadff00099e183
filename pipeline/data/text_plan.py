"""What can be told about text batches before there is one: their shapes, and how much is masked."""

import torch
from torch import Tensor

from data_prep.schema import Manifest
from pipeline.config import MaskingConfig


def masked_per_sequence(manifest: Manifest, task: str, masking: MaskingConfig) -> float:
    """Pieces that are masked in a training sequence of a task group, on average; 0 for an empty group.

    Worked out from the means in the manifest: half of the words of the task, at least one, a word being a
    piece, up to `masking.rate` of the sequence. Words of several pieces make it more: 15 % with 4,096 pieces
    of vocabulary, 50 % with 1,000.
    """
    num_rows = manifest.train_rows(task)
    if not num_rows:
        return 0.0
    most = masking.rate * tokens_per_sequence(manifest, task)
    if masking.policy == "random":
        return most
    # Half of an odd number of words is rounded down: a quarter of a word on average.
    words = max(1.0, manifest.train_words(task) / num_rows / 2 - 0.25)
    return min(words, most)


def tokens_per_sequence(manifest: Manifest, task: str) -> float:
    """Pieces of a training sequence of a task group, without padding, on average; 0 for an empty group."""
    num_rows = manifest.train_rows(task)
    num_tokens = sum(shard.tokens for shard in manifest.shards_of("train", task))
    return num_tokens / num_rows if num_rows else 0.0


def text_inputs(num_sequences: int, sequence_length: int, num_masked: int) -> dict[str, Tensor]:
    """Inputs as of `TextBatch.tensors`, for B full sequences with N masked pieces in all; zeros."""
    of_pieces = ("input_ids", "token_type_ids", "attention_mask")
    of_masked = ("masked_positions", "labels", "loss_tasks")
    return {
        **{name: torch.zeros(num_sequences, sequence_length, dtype=torch.long) for name in of_pieces},
        **{name: torch.zeros(num_masked, dtype=torch.long) for name in of_masked},
        "next_sentence_label": torch.zeros(num_sequences, dtype=torch.long),
        "piece_positions": torch.zeros(num_sequences * sequence_length, dtype=torch.long),
        "sequence_bounds": torch.zeros(num_sequences + 1, dtype=torch.int32),
    }

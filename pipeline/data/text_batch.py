"""Masked sequences as the tensors that a text model reads."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.schema import NO_LABEL
from data_prep.shards.reading import SequenceRow


class TextBatch:
    """Collects masked sequences and pads them to the longest."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id
        self._rows: list[tuple[SequenceRow, NDArray, NDArray, NDArray, int]] = []

    @property
    def num_tokens(self) -> int:
        """Pieces without padding."""
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
        `labels` and `loss_tasks` [N]; `next_sentence_label` [B]. Of the P pieces that are no padding
        `piece_positions` [P] in [B·L], and `sequence_bounds` [B + 1] int32 among the P.
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
            "piece_positions": torch.from_numpy(np.flatnonzero(attended)),
            "sequence_bounds": torch.from_numpy(np.cumsum([0, *attended.sum(axis=1)], dtype=np.int32)),
        }


def empty_inputs(pad_id: int) -> dict[str, Tensor]:
    """One padded sequence without a label."""
    none = torch.empty(0, dtype=torch.long)
    return {
        "input_ids": torch.full((1, 1), pad_id),
        "token_type_ids": torch.zeros(1, 1, dtype=torch.long),
        "attention_mask": torch.ones(1, 1, dtype=torch.long),
        "masked_positions": none,
        "labels": none,
        "loss_tasks": none,
        "next_sentence_label": torch.tensor([NO_LABEL]),
        "piece_positions": torch.zeros(1, dtype=torch.long),
        "sequence_bounds": torch.tensor([0, 1], dtype=torch.int32),
    }

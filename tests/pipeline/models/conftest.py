"""Micro-batches of random pieces, as the engine gives them to a model."""

import numpy as np
import pytest
import torch

from data_prep.shards.reading import SequenceRow
from pipeline.data.text_batch import TextBatch

VOCAB_SIZE = 300
NUM_WORD_TERMS = 3


@pytest.fixture
def batch_of():
    """A function that makes inputs from the lengths of the sequences, a tenth of the pieces masked."""

    def make(lengths, seed=0):
        random = np.random.default_rng(seed)
        batch = TextBatch(pad_id=0)
        for number, length in enumerate(lengths):
            ids = random.integers(5, VOCAB_SIZE, length)
            types = (np.arange(length) > length // 2).astype(np.uint8)
            row = SequenceRow(ids, types, np.zeros(length), np.arange(length), number % 2, ("a", "b"))
            masked = np.sort(random.choice(length, -(-length // 10), replace=False))
            shown = ids.copy()
            shown[masked] = 4
            terms = random.integers(0, NUM_WORD_TERMS, len(masked))
            batch.add(row, shown, masked, terms, number % 3 - 1)
        return batch.tensors()

    return make


@pytest.fixture
def losses_and_gradients():
    """A function: loss sums and counts of a batch, and the gradient of all terms, weighed apart, by name."""

    def backward(model, inputs):
        model.zero_grad()
        sums, counts = model.train().task_losses(inputs)
        (sums * torch.arange(1.0, 1 + len(sums))).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        return sums.detach(), counts, gradients

    return backward

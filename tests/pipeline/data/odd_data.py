"""Training data that show how they were made, and that fail; workers import them from here."""

import os
from dataclasses import dataclass

import torch

from pipeline.data.interface import MicroBatch


class UnusualError(Exception):
    """No error that a user can mend."""


@dataclass(frozen=True)
class OddData:
    """Micro-batches of their own key, process and thread count; `error` is raised at step `fails_at`."""

    fails_at: int = -1
    error: Exception | None = None

    def micro_batch(self, step, index):
        if step == self.fails_at:
            raise self.error
        made = torch.tensor([step, index, os.getpid(), torch.get_num_threads()])
        half = torch.full((3,), 0.5, dtype=torch.bfloat16)
        return MicroBatch({"made": made, "half": half}, torch.tensor([index, 0]), 1)

    def empty_micro_batch(self):
        return MicroBatch({}, torch.tensor([0, 0]), 0)


class Unopenable(OddData):
    """Data whose files are gone when a worker opens them."""

    def __reduce__(self):
        return _open, ()


def _open():
    raise FileNotFoundError(2, "No such file or directory", "shard-00000.arrow")

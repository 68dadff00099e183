"""Steps for objectives, written as lists."""

import pytest
import torch


@pytest.fixture(scope="session")
def stats_of():
    """Makes a step in which every task has a label, and was seen before, unless it is told otherwise.

    A task's gradient is as long as its loss is large.
    """
    from pipeline.objectives import TaskStats

    def make(losses, counts=None, *, step=0, valid=None, num_untasked=0, norms=None):
        return TaskStats(
            step,
            torch.tensor(losses, dtype=torch.float64),
            torch.tensor([1] * len(losses) if counts is None else counts),
            torch.tensor([True] * len(losses) if valid is None else valid),
            torch.tensor(num_untasked),
            torch.tensor(losses if norms is None else norms, dtype=torch.float64),
        )

    return make

"""How many checkpoints a run has on disk at a time."""

import pytest

from pipeline.config import CheckpointConfig
from pipeline.plan.checkpoint import most_checkpoints


@pytest.mark.parametrize(
    ("every", "keep_last", "keep_every", "num_steps", "expected"),
    [
        (0, 2, 0, 1_000, 1),  # only the last step is saved
        (10, 2, 0, 20, 2),  # no more than are ever saved
        (10, 2, 0, 1_000, 3),  # those kept, and one being written
        (10, 2, 100, 1_000, 13),  # and ten that stay
        (10, 2, 15, 300, 13),  # of steps that are multiples of both
        (7, 1, 0, 8, 2),  # the last step is saved though no multiple
    ],
)
def test_the_most_that_a_run_has_on_disk(every, keep_last, keep_every, num_steps, expected):
    config = CheckpointConfig(every=every, keep_last=keep_last, keep_every=keep_every)
    assert most_checkpoints(config, num_steps) == expected

"""What the comparison says beside its table."""

import math
from pathlib import Path

import pytest

from pipeline.evaluation import Estimate, TaskFigures
from pipeline.report import CheckpointReport, Comparison


def comparison(**losses):
    tasks = {
        name: TaskFigures(loss=Estimate(loss, None, None), accuracy=Estimate(0.5, None, None), count=count)
        for name, (loss, count) in losses.items()
    }
    report = CheckpointReport(Path("c"), "run", 5, tasks, {})
    return Comparison(Path("shards"), "test", "hash", dict.fromkeys(tasks, 3.0), [report])


def test_it_names_the_tasks_that_beat_their_unigram_distribution_and_those_that_do_not():
    remarks = comparison(noun=(2.9, 500), verb=(3.1, 500), interjection=(1.0, 3)).remarks()
    assert remarks == [
        "Too few held-out pieces to judge, left out of worst and average: interjection (3).",
        "run beats the unigram distribution of: noun.",
        "run does not beat the unigram distribution of: verb.",
    ]


@pytest.mark.parametrize("loss", [3.0, math.nan])
def test_a_loss_that_is_equal_or_no_number_beats_nothing(loss):
    assert comparison(noun=(loss, 500)).remarks() == ["run does not beat the unigram distribution of: noun."]

"""Fixed weights."""

import pytest

from data_prep.errors import UserError
from pipeline.objectives.static import Static

TASKS = ("noun", "verb", "adverb")


def test_weights_are_brought_to_sum_one_and_a_task_without_one_is_not_trained(stats_of):
    objective = Static({"verb": 3, "noun": 1}, TASKS)
    assert objective.coefficients(stats_of([1.0, 9.0, 5.0])).tolist() == [0.25, 0.75, 0]


def test_a_weight_for_no_task_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r'objective\.weights: "vreb" is no task.*did you mean "verb"'):
        Static({"vreb": 1}, TASKS)

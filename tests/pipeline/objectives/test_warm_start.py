"""Another objective first; then the one that is asked for, as if training began there."""

import torch

from pipeline.config import ObjectiveConfig
from pipeline.objectives import build_objective

TASKS = ("noun", "verb")


def build(num_steps=10, **keys):
    return build_objective(ObjectiveConfig(**keys), TASKS, num_steps)


def test_before_its_start_the_other_one_is_descended(stats_of):
    warm = build(name="minimax", start_step=4)
    before, after = (stats_of([3.0, 1.0], [1, 3], step=step) for step in (3, 4))
    assert torch.equal(warm.coefficients(before), build(name="token_mean").coefficients(before))
    assert torch.equal(warm.coefficients(after), build(name="minimax").coefficients(after))
    average = build(name="minimax", start_step=4, start_name="average")
    assert average.coefficients(before).tolist() == [0.5, 0.5]


def test_it_reads_losses_and_trains_labels_of_no_task_only_as_the_one_whose_turn_it_is():
    warm = build(name="minimax", start_step=4)
    assert [warm.reads_losses(step) for step in (3, 4)] == [False, True]
    assert [warm.trains_untasked(step) for step in (3, 4)] == [True, False]


def test_a_schedule_counts_from_the_start_and_still_ends_at_the_last_step(stats_of):
    warm = build(num_steps=10, name="minimax", alpha_schedule="linear", alpha=2.0, start_step=6)
    cold = build(num_steps=4, name="minimax", alpha_schedule="linear", alpha=2.0)
    for step in range(4):
        losses = [3.0, 1.0]
        late, early = stats_of(losses, step=6 + step), stats_of(losses, step=step)
        assert torch.equal(warm.coefficients(late), cold.coefficients(early))


def test_the_objective_begins_as_if_there_had_been_no_step_before_it(stats_of):
    for keys in ({"name": "dwa", "window": 2}, {"name": "uncertainty"}, {"name": "tchebycheff", "window": 2}):
        warm, cold = build(**keys, start_step=3), build(**keys)
        for step in range(3):
            warm.after_step(stats_of([9.0 - step, 1.0], step=step))
        for step in range(6):
            losses = [6.0 - step, 4.0 - step / 3]
            late, early = stats_of(losses, step=3 + step), stats_of(losses, step=step)
            assert torch.equal(warm.coefficients(late), cold.coefficients(early))
            warm.after_step(late)
            cold.after_step(early)

"""TensorBoard's charts, read back as TensorBoard reads them."""

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from pipeline.engine.board import Board


def record(step, losses, worst="noun"):
    return {
        "step": step,
        "worst_task": worst,
        "task_loss": losses,
        "task_weight": dict.fromkeys(losses, 0.5),
        "task_count": dict.fromkeys(losses, 3),
        "loss": 1.0,
        "average_loss": None,
    }


def charts(folder):
    """Chart → line → (step, value)."""
    board = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    drawn = {}
    for line, tags in board.Runs().items():
        for chart in tags["scalars"]:
            points = [(event.step, event.value) for event in board.Scalars(line, chart)]
            drawn.setdefault(chart, {})[line] = points
    return drawn


@pytest.fixture
def draw(tmp_path):
    def draw(first_step, *records):
        board = Board(tmp_path, ["noun", "verb"], first_step)
        for line in records:
            board.draw(line)
        board.close()
        return charts(tmp_path)

    return draw


def test_a_chart_holds_a_line_for_each_task_under_its_own_name(draw):
    drawn = draw(0, record(1, {"noun": 2.0, "verb": 4.0}), record(2, {"noun": 1.0, "verb": 3.0}))
    assert drawn["task/loss"] == {"noun": [(1, 2.0), (2, 1.0)], "verb": [(1, 4.0), (2, 3.0)]}
    assert set(drawn["task/weight"]) == set(drawn["task/count"]) == {"noun", "verb"}


def test_a_loss_that_is_no_task_is_a_chart_of_the_run(draw):
    drawn = draw(0, record(1, {"noun": 2.0, "nsp": 0.5}))
    assert drawn["train/nsp_loss"] == {".": [(1, 0.5)]}


def test_an_absent_task_and_a_figure_that_is_none_have_a_gap_not_a_zero(draw):
    drawn = draw(0, record(1, {"noun": 2.0, "verb": None}), record(2, {"noun": 2.0, "verb": 3.0}))
    assert drawn["task/loss"]["verb"] == [(2, 3.0)]
    assert "train/average_loss" not in drawn


def test_the_worst_task_is_1_and_the_others_are_0(draw):
    both = {"noun": 2.0, "verb": 2.0}
    drawn = draw(0, record(1, both, "noun"), record(2, both, "verb"))
    assert drawn["task/is_worst"] == {"noun": [(1, 1.0), (2, 0.0)], "verb": [(1, 0.0), (2, 1.0)]}


def test_a_run_that_goes_on_from_step_1_draws_over_what_came_later(draw):
    draw(0, *(record(step, {"noun": 9.0}) for step in (1, 2, 3)))
    drawn = draw(1, record(2, {"noun": 5.0}))
    assert drawn["task/loss"]["noun"] == [(1, 9.0), (2, 5.0)]

"""The time that a run still takes, from lines of metrics as runs write them."""

import pytest

from pipeline.progress import Course, Progress, course_of


def lines(*steps_and_times, began=0.0):
    return [
        {"step": step, "time": began + seconds, "began": began, "step_time_s": 1.0}
        for step, seconds in steps_and_times
    ]


def progress(recent, num_steps=100):
    return Progress(Course(num_steps, num_lines_of_pace=10), recent)


def test_the_pace_is_by_the_clock_with_validation_and_saving():
    at = progress(lines((10, 10), (20, 20), (30, 60), (40, 70)))  # 30 s of validation after step 20
    assert at.step_s == 2
    assert at.left_s == 120


def test_the_wait_between_two_attempts_is_no_pace():
    before, after = lines((10, 10), (20, 20)), lines((30, 15), (40, 30), began=9_000)
    assert progress(before + after).step_s == 1.5


def test_a_line_that_stands_alone_gives_the_time_of_its_steps():
    before, after = lines((10, 20), (20, 40)), lines((30, 15), began=9_000)
    assert progress(before + after).step_s == 1.0


def test_a_clock_that_was_set_back_gives_the_time_of_the_steps():
    assert progress(lines((10, 10), (20, 5))).step_s == 1.0


def test_without_a_line_nothing_is_known():
    at = progress([])
    assert (at.step, at.step_s, at.left_s, at.age_s, at.is_done) == (0, None, None, None, False)


@pytest.mark.parametrize(
    "log, validate, checkpoint, num_lines",
    [
        (10, 1000, 500, 101),
        (10, 0, 0, 11),
        (10, 30, 0, 13),  # four periods of three lines
        (50, 20, 20, 11),
        (1, 100_000, 0, 1001),
    ],
)
def test_the_pace_is_taken_over_whole_periods_of_what_comes_between_steps(
    tmp_path, log, validate, checkpoint, num_lines
):
    every = {"log": log, "validate": validate, "checkpoint": checkpoint}
    text = "".join(f"{section}: {{every: {number}}}\n" for section, number in every.items())
    (tmp_path / "config.yaml").write_text(f"steps: 7\n{text}")
    assert course_of(tmp_path) == Course(num_steps=7, num_lines_of_pace=num_lines)

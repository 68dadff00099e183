"""`pipeline tail` on the records of runs that are live, finished, or were killed and went on."""

import re
import subprocess
import sys
import time

import pytest

from pipeline.engine.records import METRICS, NONFINITE, WARNINGS, Records, drop_records_after
from pipeline.tail import LineFile, RunView

CONFIG = "steps: 1000\nlog: {every: 2}\nvalidate: {every: 0}\ncheckpoint: {every: 20}\n"
BEGAN = time.time() - 40
"""So step 20, at 2 s a step, is over now."""


def line(step, step_s=2.0, began=BEGAN, **figures):
    """Written as the step ends."""
    return {
        "step": step,
        "loss": 7.5,
        "average_loss": 6.25,
        "worst_task": "interjection",
        "worst_loss": 8.0,
        "num_effective_tasks": 3.14,
        "tokens_per_s": 1234.5,
        "step_time_s": step_s,
        "time": began + step * step_s,
        "began": began,
        **figures,
    }


@pytest.fixture
def run(tmp_path):
    """The folder of a run of 1,000 steps at step 20, a line every other step."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    write(folder, *range(2, 21, 2))
    return folder


def write(folder, *steps, after=10_000, **figures):
    """As a run that goes on after step `after` does."""
    drop_records_after(folder / METRICS, after)
    records = Records(folder / METRICS)
    for step in steps:
        records.append(line(step, **figures))


def tail(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "tail", *map(str, arguments)], capture_output=True, text=True
    )


def test_it_shows_the_last_lines_the_warnings_and_the_time_left_in_80_columns(run):
    Records(run / WARNINGS).append({"step": 10, "warning": "noun: absent for 1,000 steps; " * 3})
    incident = {
        "step": 4,
        "reason": "the loss is not a finite number",
        "tasks": ["noun"],
        "then": "its update is skipped",
    }
    Records(run / NONFINITE).append(incident)
    shown = tail(run, "-n", 2)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].split() == [
        "step",
        "loss",
        "average",
        "worst",
        "worst",
        "task",
        "eff.",
        "tasks",
        "tokens/s",
    ]
    assert lines[1].split() == ["18", "7.500", "6.250", "8.000", "interjection", "3.1", "1,234"]
    assert lines[2].split()[0] == "20"
    assert lines[3] == "warning: step 4: the loss is not a finite number (noun); its update is skipped"
    assert lines[4].startswith("warning: step 10: noun: absent")
    progress = r"first: step 20 of 1,000 \(2%\), 0:32:40 left at 2 s a step; last line \d:\d\d:\d\d ago"
    assert re.fullmatch(progress, lines[-1])
    assert max(map(len, lines)) <= 80


def test_a_finished_run_is_done_and_following_it_ends(run):
    write(run, 1000)
    shown = tail(run, "--follow")
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1] == "first: step 1,000 of 1,000 (100%), done"


def test_following_shows_every_line_once_until_the_last_step(run):
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "tail", str(run), "-f", "-n", "1"],
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        shown = [follower.stdout.readline() for _ in range(3)]
        write(run, 22, 1000)
        shown += follower.communicate(timeout=60)[0].splitlines()
    steps = [text.split()[0] for text in shown if text.split()[0].replace(",", "").isdigit()]
    assert steps == ["20", "22", "1,000"]
    assert follower.returncode == 0


@pytest.mark.parametrize("last_step", [16, 40], ids=["not as far as before", "further than before"])
def test_a_run_that_was_killed_and_goes_on_shows_the_steps_it_takes_again(run, last_step):
    view = RunView(run)
    list(view.last_lines(1))
    steps = range(14, last_step + 1, 2)
    write(run, *steps, after=12, step_s=1.0, began=BEGAN + 3600)
    lines = list(view.new_lines())
    assert lines[0] == "the run went on from an earlier checkpoint, at step 14"
    assert [text.split()[0] for text in lines[1:-1]] == [str(step) for step in steps]
    assert view.progress().startswith(f"first: step {last_step} of 1,000")
    assert "left at 1 s a step" in view.progress()


def test_a_line_that_is_only_half_written_waits_for_its_end(tmp_path):
    path = tmp_path / METRICS
    path.write_text('{"step": 1}\n{"st')
    file = LineFile(path)
    assert file.new_records() == [{"step": 1}]
    assert file.new_records() == []
    with path.open("a") as end:
        end.write('ep": 2}\n')
    assert file.new_records() == [{"step": 2}]


def test_a_figure_that_is_no_number_and_a_step_without_tasks_are_shown_as_none(run):
    bare = {"loss": None, "average_loss": None, "worst_task": None, "worst_loss": None}
    Records(run / METRICS).append(line(22, **bare, num_effective_tasks=None))
    row = list(RunView(run).last_lines(1))[1]
    assert row.split() == ["22", "none", "none", "none", "none", "none", "1,234"]


def test_a_run_before_its_first_line_says_so(run):
    (run / METRICS).unlink()
    shown = tail(run)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[-1] == "first: no line yet"


@pytest.mark.parametrize(
    "config, reason",
    [
        (None, ": no config.yaml;"),
        ("steps: 5\n", "/config.yaml: not as a run writes it;"),
        ("[}", "/config.yaml: not as a run writes it;"),
    ],
    ids=["nothing", "a configuration of something else", "no YAML"],
)
def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path, config, reason):
    if config:
        (tmp_path / "config.yaml").write_text(config)
    refused = tail(tmp_path)
    assert refused.returncode == 2
    assert refused.stderr == f"pipeline: error: {tmp_path}{reason} give the folder of a run, OUT_DIR/NAME\n"

"""What becomes of a check that goes wrong itself: a line that says how, and nothing left running."""

import time
from pathlib import Path

import pytest

from pipeline.doctor.finding import Check, State
from pipeline.doctor.isolation import examine_apart

HOW = ["spawn", "forkserver"]


@pytest.mark.parametrize("start", HOW)
@pytest.mark.parametrize(
    ("examine", "arguments", "expected"),
    [
        ("math:sqrt", (-1,), "ValueError: "),
        ("no_such_module:examine", (), "ModuleNotFoundError: No module named 'no_such_module'"),
        ("os:abort", (), "died (SIGABRT)"),
        ("os:_exit", (3,), "died (exit code 3)"),
        ("sys:exit", (4,), "died (exit code 4)"),
    ],
)
def test_a_check_that_raises_or_dies_is_broken_and_has_advice(start, examine, arguments, expected):
    finding = examine_apart(Check("x", examine, arguments, mend="do this"), start)
    assert finding.state is State.BROKEN
    assert finding.found.startswith(expected)
    assert finding.mend == "do this"


def test_the_last_words_of_one_that_dies_are_told():
    script = "import os, sys; print('the driver is ill', file=sys.stderr, flush=True); os._exit(1)"
    finding = examine_apart(Check("x", "builtins:exec", (script,)), "spawn")
    assert finding.found == "died (exit code 1) the driver is ill"


def test_an_error_of_many_lines_becomes_one_of_bearable_length():
    script = "raise RuntimeError('first line\\n  second line ' + 1000 * 'x')"
    finding = examine_apart(Check("x", "builtins:exec", (script,)), "spawn")
    assert finding.found.startswith("RuntimeError: first line second line xxx")
    assert len(finding.found) == 240


@pytest.mark.parametrize("start", HOW)
def test_one_that_hangs_is_ended_with_all_that_it_started_also_where_they_ignore_the_signal(tmp_path, start):
    note = tmp_path / "numbers"
    script = f"trap '' TERM; sleep 600 & echo $$ $! > {note}; wait; wait"
    check = Check("x", "subprocess:run", (["sh", "-c", script],), limit_s=2)
    started = time.monotonic()
    finding = examine_apart(check, start)
    assert finding.found == "hangs: no answer within 2 s"
    assert time.monotonic() - started < 20
    numbers = [int(number) for number in note.read_text().split()]
    while any(map(is_running, numbers)):  # a killed process takes a moment
        assert time.monotonic() - started < 20
        time.sleep(0.05)


def is_running(number):
    """Whether a process exists and is no zombie, which may wait for a parent that never asks."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

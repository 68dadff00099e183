"""Which ends of a job are worth another attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine.stop import INTERRUPTED, STOPPED
from pipeline.slurm.attempts import Attempt
from pipeline.slurm.verdict import fruitless, verdict

MANY = 100


def attempt(exit_code, failed_step=None, saved=(0, 0), restart=0, lost_hosts=()):
    """An attempt that ended; `saved` are the newest checkpoint's steps before and after."""
    return Attempt(
        *("7", restart, "node[1-2]", 0.0, saved[0]),
        ended=1.0,
        exit_code=exit_code,
        saved_step=saved[1],
        logged_step=failed_step,
        failed_step=failed_step,
        lost_hosts=lost_hosts,
    )


def cut_off(saved=0):
    return Attempt("7", 0, "node[1-2]", 0.0, saved)


def test_a_run_that_was_told_to_stop_goes_on():
    assert verdict([attempt(STOPPED)], MANY).goes_on


@pytest.mark.parametrize("code", [0, 2, INTERRUPTED])
def test_a_run_that_is_done_mistaken_or_interrupted_does_not(code):
    assert not verdict([attempt(code)], MANY).goes_on


def test_restarts_have_an_end():
    assert verdict([attempt(STOPPED, restart=2)], 3).goes_on
    last = verdict([attempt(STOPPED, restart=3)], 3)
    assert not last.goes_on
    assert "max_restarts" in last.why


def test_a_failure_is_tried_again_without_the_nodes_whose_ranks_were_lost():
    judgement = verdict([attempt(1, failed_step=40, saved=(0, 20), lost_hosts=("node2",))], MANY)
    assert judgement.goes_on
    assert judgement.without_nodes == ("node2",)
    assert judgement.why == "failed in step 40; tried again from step 20 without node2, where ranks were lost"


def test_the_same_step_is_not_tried_a_third_time():
    first, again = (attempt(1, failed_step=40, saved=saved) for saved in ((0, 20), (20, 20)))
    judgement = verdict([first, again], MANY)
    assert not judgement.goes_on
    assert "step 40 failed 2 times" in judgement.why


def test_a_failure_at_another_step_is_tried_again_until_three_in_a_row_saved_nothing():
    failures = [attempt(1, failed_step=step, saved=(20, 20)) for step in (31, 35, 22)]
    assert verdict(failures[:2], MANY).goes_on
    assert not verdict(failures, MANY).goes_on
    failures[1] = attempt(1, failed_step=35, saved=(20, 30))
    assert verdict(failures, MANY).goes_on


def test_jobs_that_vanish_again_and_again_without_a_checkpoint_are_not_started_any_more():
    assert fruitless([cut_off()] * 2) is None
    refusal = fruitless([cut_off()] * 3)
    assert refusal is not None
    assert "3 attempts in a row left no new checkpoint" in refusal.why


ends = st.builds(
    attempt,
    st.sampled_from([1, 137]),
    failed_step=st.integers(1, 5),
    saved=st.sampled_from([(0, 0), (0, 3)]),
)


@given(st.lists(ends, min_size=4, max_size=12))
def test_no_row_of_failures_without_a_checkpoint_goes_on_for_ever(attempts):
    tried = 1
    while tried < len(attempts) and verdict(attempts[:tried], MANY).goes_on:
        tried += 1
    row = [a.saved_nothing for a in attempts[:tried]]
    assert not any(all(row[n : n + 4]) for n in range(len(row) - 3))

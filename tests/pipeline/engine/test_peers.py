"""A rank that dies or hangs ends the job on all ranks, with a line that names it."""

import re
import signal
import socket

import pytest

HOST = re.escape(socket.gethostname())
ENDLESS = ("steps=100000", "checkpoint.every=0")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_dies_is_named_within_seconds(pretrain_ranks, lost):
    run = pretrain_ranks(*ENDLESS, world_size=2)
    run.wait_for_steps(2)
    run.processes[lost].kill()
    codes, said = run.end(seconds=60)
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] == 1
    (line,) = said[1 - lost].strip().splitlines()[-1:]
    assert re.match(
        rf"pipeline: error: rank {1 - lost}, step \d+: rank {lost} on {HOST} is gone or stuck", line
    ), line
    assert "the same command goes on from the newest checkpoint" in line


def test_a_rank_that_hangs_is_named_once_the_time_is_up(pretrain_ranks):
    run = pretrain_ranks(*ENDLESS, "timeout_s=15", world_size=3)
    run.wait_for_steps(2)
    run.processes[1].send_signal(signal.SIGSTOP)
    codes = [run.processes[rank].wait(timeout=90) for rank in (0, 2)]
    run.processes[1].kill()
    assert codes == [1, 1]
    said = run.processes[0].communicate()[1]
    assert re.search(
        rf"rank 0, step \d+: rank 1 on {HOST} is gone or stuck, in step \d+ since \d+ s;", said
    ), said


def test_a_mistake_of_the_program_is_not_taken_for_a_lost_rank(pretrain_ranks):
    codes, said = pretrain_ranks("steps=8", "optimizer.lr=1e30", "schedule.name=constant", world_size=2).end()
    assert all(codes)
    assert "gone or stuck" not in "".join(said)


def test_ranks_that_never_come_are_told_in_one_line(pretrain_ranks):
    run = pretrain_ranks("timeout_s=5", world_size=2)
    run.processes[1].kill()
    code = run.processes[0].wait(timeout=90)
    (line,) = (line for line in run.processes[0].communicate()[1].splitlines() if "error" in line)
    assert code == 1
    assert line.startswith("pipeline: error: rank 0: the 2 ranks did not meet at 127.0.0.1:")

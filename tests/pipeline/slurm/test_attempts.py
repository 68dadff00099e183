"""What is known of attempts that could not say how they ended."""

import pytest

from pipeline.engine.run_folder import MANIFEST, checkpoint_folder
from pipeline.slurm.attempts import AttemptLog
from pipeline.slurm.verdict import fruitless


@pytest.fixture
def vanish(tmp_path, monkeypatch):
    """Begin an attempt that saves the step, if any, and never ends."""

    def vanish(restart, saves=None):
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
        AttemptLog(tmp_path).begin("node1")
        if saves:
            checkpoint_folder(tmp_path, saves).mkdir(parents=True)
            (checkpoint_folder(tmp_path, saves) / MANIFEST).touch()

    return vanish


def test_one_that_was_cut_off_left_what_the_next_one_found(tmp_path, vanish):
    assert AttemptLog(tmp_path).attempts == []
    vanish(0, saves=20)
    vanish(1)
    vanish(2, saves=40)
    attempts = AttemptLog(tmp_path).attempts
    assert all(attempt.is_cut_off for attempt in attempts)
    assert [attempt.saved_step for attempt in attempts] == [20, 20, 40]
    assert [attempt.saved_nothing for attempt in attempts] == [False, True, False]


def test_attempts_that_are_cut_off_again_and_again_are_no_failure_while_they_save(tmp_path, vanish):
    for restart in range(5):
        vanish(restart, saves=20 * (restart + 1))
        assert fruitless(AttemptLog(tmp_path).attempts) is None
    for restart in range(5, 8):
        assert fruitless(AttemptLog(tmp_path).attempts) is None
        vanish(restart)
    assert fruitless(AttemptLog(tmp_path).attempts) is not None

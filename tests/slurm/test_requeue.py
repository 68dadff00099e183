"""Which jobs go back into SLURM's queue once their ranks have ended, and which have been there before."""

import time

import pytest

from pipeline.slurm.queue import SlurmError
from pipeline.slurm.requeue import requeue

pytestmark = pytest.mark.usefixtures("pipeline")


@pytest.fixture
def job(cluster, tmp_path):
    """A job that runs and does not end when it is told to."""
    options = ("--parsable", "--requeue", "--time=10", f"--output={tmp_path}/log")
    number = cluster.ask("sbatch", *options, "--wrap=trap '' TERM; echo begun; while :; do sleep 1; done")
    cluster.wait_for_job(number, "RUNNING", timeout_s=30)
    while "begun" not in ((tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""):
        time.sleep(0.1)
    return number


def test_a_job_that_slurm_has_queued_again_itself_is_left_alone(cluster, job, tmp_path):
    cluster.ask("scontrol", "requeue", job)
    for _ in range(2):
        requeue(job, 0, (), tmp_path / "log")
        assert cluster.job(job)["Restarts"] == "1"
        cluster.wait_for_job(job, "PENDING", timeout_s=30)


def test_a_job_that_was_cancelled_is_not_queued_again(cluster, job, tmp_path):
    cluster.ask("scancel", "--full", job)
    for state in ("completing", "cancelled"):
        cluster.wait_for_job(job, state.upper(), timeout_s=30)
        with pytest.raises(SlurmError, match=f"SLURM has it as {state}"):
            requeue(job, 0, (), tmp_path / "log")
    assert cluster.job(job)["Restarts"] == "0"

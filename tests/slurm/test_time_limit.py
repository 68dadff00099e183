"""A job whose time is up without notice: SLURM tells it to end, and kills it KillWait seconds later."""

import json

import pytest

from pipeline.slurm.requeue import requeue

DEAF = "trap '' TERM; while :; do sleep 1; done"


@pytest.fixture(scope="module")
def out_of_time(cluster, tmp_path_factory):
    """Two jobs that are past their time, since SLURM looks twice a minute; the second is of a run."""
    run = tmp_path_factory.mktemp("submit") / "runs" / "first"
    run.mkdir(parents=True)
    settings = {"steps": 1000, "log": {"every": 2}, "validate": {"every": 0}, "checkpoint": {"every": 0}}
    (run / "config.yaml").write_text(json.dumps(settings))
    options = ("--parsable", "--requeue", "--time=10", "--output=/dev/null", f"--comment={run}")
    jobs = [cluster.ask("sbatch", *options, f"--wrap={DEAF}") for _ in range(2)]
    for job in jobs:
        cluster.wait_for_job(job, "RUNNING", timeout_s=30)
        cluster.ask("scontrol", "update", f"JobId={job}", "EndTime=now+1")
    return run, *jobs


@pytest.mark.usefixtures("pipeline")
def test_it_goes_on_where_its_ranks_have_saved_before_it_is_killed(cluster, out_of_time, tmp_path):
    _, job, _ = out_of_time
    cluster.wait_for_job(job, "COMPLETING", timeout_s=60)
    requeue(job, 0, (), tmp_path / "log")
    assert cluster.wait_for_job(job, "PENDING", timeout_s=30)["Restarts"] == "1"
    cluster.ask("scancel", job)


def test_a_run_that_had_not_saved_has_timed_out_and_status_says_what_to_do(cluster, out_of_time, pipeline):
    run, _, job = out_of_time
    cluster.wait_for_job(job, "TIMEOUT", timeout_s=60)
    facts = pipeline("status", run).facts
    assert facts["state"] == f"timeout, job {job} (TIMEOUT: TimeLimit)"
    assert "`pipeline submit` goes on from the newest checkpoint" in facts["to do"]

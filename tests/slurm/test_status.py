"""`pipeline status`: what a real SLURM says of jobs, beside the records of their runs."""

import os
import re
import time

import pytest

from pipeline.engine.records import METRICS, VALIDATION, WARNINGS, Records
from pipeline.slurm.attempts import AttemptLog

CONFIG = "steps: 1000\nlog: {every: 2}\nvalidate: {every: 10}\ncheckpoint: {every: 20}\n"


@pytest.fixture
def run(submit_dir):
    """The folder of a run of 1,000 steps at step 20, 2 s each with all that is no step: 1,960 s are left."""
    return make_run(submit_dir / "runs" / "first")


def make_run(folder):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    metrics, began = Records(folder / METRICS), time.time() - 20 * 2
    for step in range(2, 21, 2):
        metrics.append(line(step, began))
    return folder


def line(step, began):
    times = {"step_time_s": 1.5, "time": began + step * 2, "began": began}
    return {"step": step, "worst_task": "verb", "tokens_per_s": 1234.5, **times}


@pytest.fixture
def sbatch(cluster):
    """Hand in a job that sleeps; its number."""

    def hand_in(*options, run_dir=None):
        comment = [f"--comment={run_dir}"] if run_dir else []
        return cluster.ask(
            "sbatch", "--parsable", "--output=/dev/null", *comment, *options, "--wrap=sleep 60"
        )

    return hand_in


def test_a_running_job_stands_beside_what_its_run_wrote(pipeline, cluster, sbatch, run):
    Records(run / VALIDATION).append({"step": 10, "worst_task": "noun", "worst_loss": 8.5})
    Records(run / VALIDATION).append({"step": 20, "worst_task": "interjection", "worst_loss": 7.25})
    Records(run / WARNINGS).append({"step": 10, "warning": "adverb: absent for 1,000 steps"})
    checkpoint = run / "checkpoints" / "step-00000020"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").touch()
    job = sbatch("--nodes=2", "--time=50", run_dir=run)
    cluster.wait_for_job(job, "RUNNING", timeout_s=30)
    answer = pipeline("status", "runs/first")
    assert answer.code == 0, answer.errors
    facts = answer.facts
    assert facts["run"] == "runs/first"
    assert facts["state"] == f"running, job {job}"
    assert facts["nodes"] == "node[1-2]"
    assert facts["restarts"] == "0"
    assert facts["step"].startswith("20 of 1,000 (2%), 1,234 tokens/s; last line 0:00:0")
    assert re.fullmatch(r"0:32:40 of training, 0:(50:00|49:\d\d) of the job", facts["time left"])
    assert facts["worst task"] == "interjection 7.250 held-out, at step 20"
    assert facts["checkpoint"].startswith("step 20, 0:00:0")
    assert facts["warning"] == "step 10: adverb: absent for 1,000 steps"
    assert max(map(len, answer.text.splitlines())) <= 80


def test_training_that_takes_longer_than_the_job_says_how_many_more_it_takes(pipeline, cluster, sbatch, run):
    cluster.wait_for_job(sbatch("--time=10", run_dir=run), "RUNNING", timeout_s=30)
    left = pipeline("status", run).facts["time left"]
    assert re.fullmatch(r"0:32:40 of training, 0:(10:00|09:\d\d) of the job, then 3 more of 0:10:00", left)


def test_a_job_that_was_requeued_waits_and_counts_its_restart(pipeline, cluster, sbatch, run):
    job = sbatch("--time=10", run_dir=run)
    cluster.wait_for_job(job, "RUNNING", timeout_s=30)
    cluster.ask("scontrol", "requeue", job)
    cluster.wait_for_job(job, "PENDING", timeout_s=30)
    facts = pipeline("status", run).facts
    assert facts["state"].startswith(f"pending, job {job}: BeginTime, expected to start 20")
    assert facts["restarts"] == "1"


def test_a_run_that_has_not_begun_says_why_it_waits_and_until_when(pipeline, cluster, sbatch, submit_dir):
    new = submit_dir / "runs" / "new"
    (new / "slurm").mkdir(parents=True)
    cluster.wait_for_job(sbatch("--nodes=3", "--exclusive", "--time=5"), "RUNNING", timeout_s=30)
    job = sbatch("--nodes=3", "--exclusive", "--time=5", run_dir=new)
    deadline = time.monotonic() + 30
    while "expected" not in (state := pipeline("status", new).facts["state"]):
        assert time.monotonic() < deadline, state
    assert state.startswith(f"pending, job {job}: Resources, expected to start 20")
    assert pipeline("status", new).facts["step"] == "none yet"
    assert "new" in pipeline("status").text


@pytest.mark.parametrize("options", [(), ("--comment=written by the cluster",)], ids=["bare", "commented"])
def test_a_job_that_was_handed_in_by_hand_is_known_by_what_it_wrote_down(
    pipeline, cluster, sbatch, run, monkeypatch, options
):
    job = sbatch("--time=10", *options)
    cluster.wait_for_job(job, "RUNNING", timeout_s=30)
    assert pipeline("status", run).facts["state"] == "no job"
    monkeypatch.setenv("SLURM_JOB_ID", job)
    AttemptLog(run).begin("node1")
    assert pipeline("status", run).facts["state"] == f"running, job {job}"


def test_a_job_that_names_another_run_is_not_taken_for_this_one_s(pipeline, sbatch, run, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", sbatch("--hold", run_dir="/elsewhere/runs/second"))
    AttemptLog(run).begin("node1")
    assert pipeline("status", run).facts["state"] == "no job"


def test_a_cancelled_job_is_told_until_slurm_forgets_it(pipeline, cluster, sbatch, run):
    job = sbatch("--hold", run_dir=run)
    cluster.ask("scancel", job)
    assert pipeline("status", run).facts["state"].startswith(f"cancelled, job {job}")


def test_a_finished_run_is_done_and_nothing_is_left(pipeline, run):
    Records(run / METRICS).append(line(1000, began=0.0))
    facts = pipeline("status", run).facts
    assert facts["state"] == "done"
    assert "time left" not in facts


def test_without_a_name_it_shows_runs_with_a_job_or_news_in_80_columns(pipeline, cluster, sbatch, submit_dir):
    make_run(submit_dir / "runs" / "recent")
    make_run(submit_dir / "runs" / "study" / "seed-1")
    old = make_run(submit_dir / "runs" / "old")
    elsewhere = make_run(submit_dir / "scratch" / "elsewhere")
    (elsewhere / "slurm").mkdir()
    for path in (old / METRICS, old / "config.yaml", elsewhere / METRICS, elsewhere / "config.yaml"):
        os.utime(path, times=(0, time.time() - 10 * 24 * 3600))
    foreign = submit_dir / "runs" / "foreign"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("of: another program\n")
    sbatch("--hold", run_dir=elsewhere)
    sbatch("--hold", "--comment=/" + "x" * 400)
    rows = pipeline("status").text.splitlines()
    shown = [row.split()[:3] for row in rows if "(2%)" in row]
    assert shown == [
        ["runs/recent", "no", "job"],
        ["runs/study/seed-1", "no", "job"],
        ["scratch/elsewhere", "pending", "20"],
    ]
    assert max(map(len, rows)) <= 80


def test_nothing_to_show_is_no_mistake(pipeline):
    answer = pipeline("status")
    assert answer.code == 0
    assert answer.text == "No run below runs/ has a job, or was written to in the last 3 days.\n"


def test_without_slurm_it_shows_the_run_and_says_so(pipeline, run, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = pipeline("status", run)
    assert answer.code == 0
    assert answer.facts["step"].startswith("20 of 1,000")
    assert answer.text.endswith(
        "Of jobs nothing is known here: squeue: not on this machine; use a login node of \nthe cluster\n"
    )


def test_a_folder_that_is_no_run_is_refused_in_one_line(pipeline, tmp_path):
    answer = pipeline("status", "nowhere")
    assert answer.code == 2
    assert answer.errors == [
        "pipeline: error: nowhere: no config.yaml; give the folder of a run, OUT_DIR/NAME"
    ]

"""slurm/pretrain.sh on a real cluster: runs that are stopped, moved and given up."""

import os
import re
import time

from .job import RANKS, STEPS

KILLS_ITSELF_AT_STEP_7 = """
import os, sys
if "pretrain" in sys.orig_argv and os.environ.get("SLURM_PROCID") == "1":
    from pipeline.engine.peers import Peers
    tell = Peers.at
    def at(self, step):
        tell(self, step)
        if step == 6:
            os.kill(os.getpid(), 9)
    Peers.at = at
"""


def test_a_run_whose_time_is_nearly_up_saves_stops_and_goes_on(cluster, train, same_end):
    job = train("out-of-time")
    job.wait_for_step(10)
    cluster.ask("scancel", "--batch", "--signal=USR2", job.number)  # as --signal=B:USR2 does
    assert job.end()["Restarts"] == "1"
    assert "told to stop; goes on from the newest checkpoint" in job.log
    same_end(job)


def test_a_cancelled_run_stays_so(cluster, train):
    job = train("cancelled")
    job.wait_for_step(5)
    cluster.ask("scancel", job.number)
    assert job.end("CANCELLED")["Restarts"] == "0"
    time.sleep(8)  # longer than this cluster waits before it starts a job again
    assert cluster.job(job.number)["JobState"] == "CANCELLED"


def test_a_node_whose_rank_hangs_is_left_out_of_the_next_attempt(cluster, train):
    job = train("hanging", "timeout_s=20")
    job.wait_for_step(25)
    node = cluster.hostnames(cluster.job(job.number)["NodeList"])[1]
    cluster.stop_processes(node, "pipeline pretrain")
    facts = job.end()
    assert facts["ExcNodeList"] == node
    assert node not in cluster.hostnames(facts["NodeList"])
    assert re.search(rf"tried again from step \d+ without {node}, where ranks were lost", job.log)


def test_a_run_that_fails_at_the_same_step_again_is_given_up(cluster, train, submit_dir):
    (submit_dir / "sitecustomize.py").write_text(KILLS_ITSELF_AT_STEP_7)
    job = train(
        "doomed", options=(*RANKS, f"--export=ALL,PYTHONPATH={submit_dir}:{os.environ.get('PYTHONPATH', '')}")
    )
    assert job.end("FAILED")["Restarts"] == "1"
    assert "failed 2 times; see the lines above" in job.log


def test_a_mistake_in_the_run_file_ends_the_job_before_its_ranks_start(cluster, submit_dir):
    answer = cluster.run(
        "sbatch", "--parsable", *RANKS, "slurm/pretrain.sh", "run.yaml", "seeed=1", cwd=submit_dir
    )
    number = answer.stdout.strip()
    assert cluster.wait_for_job(number, "FAILED", timeout_s=60)["ExitCode"] == "2:0"
    assert 'unknown key "seeed"' in (submit_dir / f"pretrain-{number}.log").read_text()
    assert not (submit_dir / "runs").exists()


def test_a_run_that_is_pushed_out_at_once_goes_on_from_what_was_saved(train, push_out):
    job = train("pushed-out", options=("--partition=no_grace", *RANKS))
    job.wait_for_step(45)
    push_out(num_nodes=3, seconds=1)
    restarts = int(job.end()["Restarts"])  # a second one where SLURM gave it the nodes before the other job
    assert restarts in (1, 2)
    assert len(job.attempts) == restarts + 1
    saved = job.attempts[1].saved_step_before
    assert saved >= 40
    assert f"going on after step {saved}\n" in job.log
    assert "not queued again" not in job.log
    assert job.steps == list(range(1, STEPS + 1))


def test_an_elastic_run_goes_on_with_the_nodes_that_are_left(cluster, train):
    job = train("elastic", options=("--nodes=1-2", *RANKS[1:]))
    job.wait_for_step(25)
    nodes = job.nodes
    assert len(nodes) == 2
    others = [node for node in cluster.nodes if node != nodes[0]]
    for node in others:
        cluster.ask("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=test")
    cluster.ask("scontrol", "requeue", job.number)
    try:
        assert job.end()["NodeList"] == nodes[0]
    finally:
        for node in others:
            cluster.ask("scontrol", "update", f"NodeName={node}", "State=resume")
    assert job.steps == list(range(1, STEPS + 1))

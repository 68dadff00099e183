"""slurm/pretrain.sh on a real cluster: runs that are stopped, moved and robbed of a node end as others do."""

import json
import os
import re
import time

import pytest
from safetensors.torch import load_file

RANKS = ("--nodes=2", "--cpus-per-task=1", "--time=10")
RUN = (
    *("run.yaml", "data.path=shards", "data.num_workers=0", "batch.global_size=12", "batch.micro_size=4"),
    *("validate.every=0", "checkpoint.every=20", "log.every=1"),
)
STEPS = 150
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


@pytest.fixture
def train(cluster, submit_dir):
    """Submit a run by the name `name`; the job's number."""

    def train(name, *overrides, options=RANKS):
        job = cluster.ask(
            *("sbatch", "--parsable", *options, "slurm/pretrain.sh"),
            *(*RUN, f"name={name}", f"steps={STEPS}", *overrides),
            cwd=submit_dir,
        )
        return Job(cluster, job, submit_dir / "runs" / name)

    return train


class Job:
    """A job, and the folder of its run."""

    def __init__(self, cluster, number, run_dir):
        self._cluster, self.number, self.run_dir = cluster, number, run_dir

    @property
    def log(self):
        path = self.run_dir / "slurm" / "log"
        return path.read_text() if path.exists() else ""

    @property
    def lines(self):
        path = self.run_dir / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for_step(self, step, timeout_s=120):
        end = time.monotonic() + timeout_s
        while not any(line["step"] >= step for line in self.lines):
            assert time.monotonic() < end, self.log
            time.sleep(0.1)

    def end(self, state="COMPLETED", timeout_s=240):
        try:
            return self._cluster.wait_for_job(self.number, state, timeout_s=timeout_s)
        except TimeoutError as error:
            raise AssertionError(self.log) from error

    @property
    def parameters(self):
        return load_file(self.run_dir / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors")


@pytest.fixture
def same_end(train):
    """Compare a job's run, record by record and bit by bit, with one that is left alone."""

    def same_end(job):
        undisturbed = train("undisturbed")
        undisturbed.end()
        assert [line["step"] for line in job.lines] == list(range(1, STEPS + 1))
        assert [line["task_loss"] for line in job.lines] == [line["task_loss"] for line in undisturbed.lines]
        expected = undisturbed.parameters
        assert all((value == expected[name]).all() for name, value in job.parameters.items())

    return same_end


def test_a_run_that_is_preempted_and_then_loses_a_node_ends_as_one_that_is_left_alone(
    cluster, train, same_end
):
    job = train("disturbed")
    job.wait_for_step(20)
    cluster.ask("scontrol", "requeue", job.number)  # as a preemption does
    job.wait_for_step(50)
    assert "going on after step" in job.log
    nodes = cluster.hostnames(cluster.job(job.number)["NodeList"])
    cluster.kill_node(nodes[1])
    facts = job.end()
    assert nodes[1] not in cluster.hostnames(facts["NodeList"])
    assert facts["Restarts"] == "2"
    cluster.start_node(nodes[1])
    same_end(job)


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


def test_an_elastic_run_goes_on_with_the_nodes_that_are_left(cluster, train):
    job = train("elastic", options=("--nodes=1-2", *RANKS[1:]))
    job.wait_for_step(25)
    nodes = cluster.hostnames(cluster.job(job.number)["NodeList"])
    others = [node for node in cluster.nodes if node != nodes[0]]
    for node in others:
        cluster.ask("scontrol", "update", f"NodeName={node}", "State=drain", "Reason=test")
    cluster.ask("scontrol", "requeue", job.number)
    try:
        assert job.end()["NodeList"] == nodes[0]
    finally:
        for node in others:
            cluster.ask("scontrol", "update", f"NodeName={node}", "State=resume")
    assert [line["step"] for line in job.lines] == list(range(1, STEPS + 1))

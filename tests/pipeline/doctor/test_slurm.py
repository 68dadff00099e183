"""SLURM as a login node, a laptop, a job and a step see it."""

import time

import pytest

from pipeline.doctor import slurm
from pipeline.doctor.finding import State


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    """No job, whatever the tests themselves run in."""
    for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_JOB_END_TIME", "RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def step(monkeypatch):
    """The variables of a task of srun."""
    variables = {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "node[1-2]",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_machine_without_sbatch_does_without(empty_path):
    finding = slurm.examine()
    assert finding.state is State.UNUSED
    assert "torchrun" in finding.found


def test_an_sbatch_that_finds_no_cluster_is_broken_and_quoted(program):
    path = program("sbatch", "echo 'sbatch: fatal: Could not establish a configuration source' >&2; exit 1")
    finding = slurm.examine()
    assert finding.state is State.BROKEN
    assert finding.found.startswith(f"{path} finds no cluster: sbatch: fatal: Could not establish")
    assert "SLURM_CONF" in finding.mend


def test_a_login_node_shows_its_version(program):
    program("sbatch", "echo slurm 24.05.1")
    assert slurm.examine().found == "slurm 24.05.1; not in a job"


def test_a_job_that_does_not_know_its_end_gets_the_line_that_tells_it(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    finding = slurm.examine()
    assert finding.state is State.WARNING
    assert "SLURM_JOB_END_TIME is not set" in finding.found
    assert finding.mend.startswith("#SBATCH --signal=USR2@")


def test_a_step_shows_how_long_it_has(step, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 2 * 3600 + 5 * 60))
    assert slurm.examine().found == "job 7, step 0, ends in 2 h 05 min"


def test_ranks_meet_at_a_node_that_has_an_address(step, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    finding = slurm.examine_rendezvous()
    assert finding.state is State.WORKS
    assert finding.found.startswith("4 tasks meet at localhost (")


def test_a_first_node_without_an_address_is_named(step, program):
    program("scontrol", 'echo "no-such-node.invalid"')
    finding = slurm.examine_rendezvous()
    assert finding.state is State.BROKEN
    assert finding.found.startswith("no-such-node.invalid, the first node, has no address here")
    assert "MASTER_ADDR" in finding.mend


def test_a_step_without_scontrol_says_what_it_is_for(step, empty_path):
    finding = slurm.examine_rendezvous()
    assert finding.state is State.BROKEN
    assert "scontrol" in finding.found
    assert "MASTER_ADDR" in finding.mend

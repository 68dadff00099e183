"""Where a process stands: under torchrun, under srun, inside a batch script, alone."""

import pytest

from data_prep.errors import UserError
from pipeline.engine.launch import launch_environment

SLURM_JOB = {"SLURM_JOB_ID": "20017", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


def test_a_launcher_is_believed():
    given = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "1234",
    }
    assert launch_environment({**given, **SLURM_JOB}) == given


def test_half_a_launcher_is_refused_by_name():
    with pytest.raises(UserError, match="LOCAL_RANK, MASTER_ADDR, MASTER_PORT not set"):
        launch_environment({"RANK": "0", "WORLD_SIZE": "2"})


def test_a_task_of_an_srun_step_takes_slurms_numbers():
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "MASTER_ADDR": "node1"}
    environment = launch_environment({**SLURM_JOB, **step})
    assert environment == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "node1",
        "MASTER_PORT": "20017",
    }


def test_a_batch_script_without_srun_runs_alone():
    assert launch_environment(SLURM_JOB)["WORLD_SIZE"] == "1"


def test_without_a_launcher_it_runs_alone_on_a_free_port():
    environment = launch_environment({})
    assert (environment["RANK"], environment["WORLD_SIZE"]) == ("0", "1")
    assert environment["MASTER_ADDR"] == "127.0.0.1"

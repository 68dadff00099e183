"""SLURM: whether jobs can be handed in, and what a job knows about itself."""

import os
import shutil
import socket
import subprocess
import time

from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened

_TIMEOUT_S = 10


def examine() -> Finding:
    """Ask sbatch for its version, and the environment for the job."""
    if "SLURM_JOB_ID" in os.environ:
        return _examine_job()
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        return Finding(State.UNUSED, "no sbatch on PATH; torchrun and deepspeed start runs, too")
    answer = subprocess.run(  # noqa: S603 - no shell
        [sbatch, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if answer.returncode:
        return Finding(
            State.BROKEN,
            shortened(f"{sbatch} finds no cluster: {_last_line(answer.stderr)}"),
            "on a cluster's node ask its administrators, or name its file: export SLURM_CONF=…/slurm.conf",
        )
    return Finding(State.WORKS, f"{answer.stdout.strip()}; not in a job")


def examine_rendezvous() -> Finding:
    """In a step of several tasks: find the rank that all meet at, by name."""
    if "SLURM_STEP_ID" not in os.environ or "RANK" in os.environ:
        return Finding(State.UNUSED, "not in a step of srun, whose tasks look for one another")
    from pipeline.engine.launch import launch_environment

    try:
        meeting = launch_environment(dict(os.environ))
    except (OSError, subprocess.CalledProcessError) as error:
        return Finding(
            State.BROKEN,
            f"scontrol does not name the nodes of this step: {error}",
            "put scontrol on PATH, or export MASTER_ADDR=NODE, the first node of the job",
        )
    host, port = meeting["MASTER_ADDR"], meeting["MASTER_PORT"]
    try:
        address = socket.getaddrinfo(host, port)[0][4][0]
    except OSError as error:
        return Finding(
            State.BROKEN,
            f"{host}, the first node, has no address here: {error.strerror}",
            "export MASTER_ADDR= its address in slurm/pretrain.sh",
        )
    return Finding(State.WORKS, f"{meeting['WORLD_SIZE']} tasks meet at {host} ({address}), port {port}")


def _examine_job() -> Finding:
    job = os.environ["SLURM_JOB_ID"]
    step = os.environ.get("SLURM_STEP_ID")
    found = f"job {job}, step {step}" if step else f"job {job}, outside a step: srun starts the ranks"
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if not end.isdigit():
        return Finding(
            State.WARNING,
            f"{found}; SLURM_JOB_END_TIME is not set, so a run does not know when to save and stop",
            "#SBATCH --signal=USR2@180 tells it",
        )
    return Finding(State.WORKS, f"{found}, ends in {_duration(float(end) - time.time())}")


def _duration(seconds: float) -> str:
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it says nothing")

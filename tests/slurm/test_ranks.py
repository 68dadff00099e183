"""What the ranks that slurm/pretrain.sh starts know: their place, their GPU, and when their time is up."""

import json
import shutil
from datetime import datetime

import pytest

from .conftest import PROJECT

PROBE = """
import json, os, torch
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: len(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","))
from pipeline.engine.launch import launch_environment
names = ("SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_END_TIME")
place = launch_environment(dict(os.environ)) | {name: os.environ.get(name) for name in names}
with open(f"rank-{place['RANK']}.json", "w") as file:
    json.dump(place, file)
"""
RUN = ("run.yaml", "data.path=shards")
SBATCH = ("sbatch", "--parsable", "--cpus-per-task=1", "--mincpus=2", "--time=10", "slurm/pretrain.sh")


@pytest.fixture
def ranks(cluster, submit_dir):
    """Let the script start ranks that say where they are instead of training; what they said, by rank."""
    (submit_dir / "probe.py").write_text(PROBE)
    script = (PROJECT / "slurm" / "pretrain.sh").read_text()
    (submit_dir / "slurm").unlink()
    (submit_dir / "slurm").mkdir()
    edited = submit_dir / "slurm" / "pretrain.sh"
    edited.write_text(script.replace("container=() ", "container=(python probe.py) "))
    shutil.copymode(PROJECT / "slurm" / "pretrain.sh", edited)

    def ranks(job):
        cluster.wait_for_job(job, "COMPLETED", timeout_s=120)
        said = [json.loads(path.read_text()) for path in submit_dir.glob("rank-*.json")]
        return sorted(said, key=lambda place: int(place["RANK"]))

    return ranks


@pytest.fixture(params=["--gpus-per-node=2", "--gpus-per-task=1"])
def job_with_gpus(request, cluster, submit_dir, ranks, pipeline):
    """On 2 nodes with 2 ranks each: as `pipeline submit` asks for them, and as others do by hand."""
    if request.param == "--gpus-per-node=2":
        size = ("--nodes", 2, "--gpus-per-node", 2, "--cpus-per-rank", 1, "--time", 10)
        return pipeline("submit", *RUN, *size).job
    size = ("--nodes=2", "--ntasks-per-node=2", request.param)
    return cluster.ask("sbatch", *size, *SBATCH[1:], *RUN, cwd=submit_dir)


def test_each_rank_has_a_gpu_of_its_own_and_all_meet_at_the_first(cluster, ranks, job_with_gpus):
    said = ranks(job_with_gpus)
    first, second = cluster.hostnames(cluster.job(job_with_gpus)["NodeList"])
    assert [place["RANK"] for place in said] == ["0", "1", "2", "3"]
    assert [place["SLURMD_NODENAME"] for place in said] == [first, first, second, second]
    gpus = [place["CUDA_VISIBLE_DEVICES"].split(",")[int(place["LOCAL_RANK"])] for place in said]
    assert sorted(gpus[:2]) == sorted(gpus[2:]) == ["0", "1"]
    assert {place["WORLD_SIZE"] for place in said} == {"4"}
    assert {(place["MASTER_ADDR"], place["MASTER_PORT"]) for place in said} == {
        (first, str(20_000 + int(job_with_gpus)))
    }


def test_a_job_with_gpus_that_torch_does_not_see_ends_at_once(cluster, submit_dir, pipeline):
    job = pipeline("submit", *RUN, "--nodes", 1, "--gpus-per-node", 1, "--cpus-per-rank", 1, "--time", 10).job
    assert cluster.wait_for_job(job, "FAILED", timeout_s=120)["ExitCode"] == "2:0"
    log = (submit_dir / "runs" / "tiny" / "slurm" / "log").read_text()
    assert "SLURM gives this job 1 GPU per node, but torch" in log
    assert pipeline("status", "runs/tiny").facts["log"] == "runs/tiny/slurm/log"


def test_each_rank_knows_when_the_time_of_the_job_is_up(cluster, submit_dir, ranks):
    job = cluster.ask(*SBATCH[:2], "--nodes=2", *SBATCH[2:], *RUN, cwd=submit_dir)
    cluster.wait_for_job(job, "RUNNING", timeout_s=60)
    end = datetime.fromisoformat(cluster.job(job)["EndTime"]).timestamp()
    assert [float(place["SLURM_JOB_END_TIME"]) for place in ranks(job)] == [end, end]

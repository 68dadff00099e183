"""slurm/study.sh by slurm/submit_array.sh on a real cluster: parts, and the report in the last job."""

import re
import shutil

import pytest
import yaml

from .conftest import PROJECT

OVERRIDES = {
    "steps": 2,
    "data.path": "shards",
    "data.num_workers": 0,
    "model.hidden_size": 32,
    "batch.global_size": 12,
    "batch.micro_size": 12,
    "objective.nsp": "off",
    "validate.every": 0,
}


@pytest.fixture
def submit_study(cluster, submit_dir):
    """Submit a study of two arms in 2 parts; the answer of submit_array.sh."""
    (submit_dir / "slurm").unlink()
    shutil.copytree(PROJECT / "slurm", submit_dir / "slurm")
    script = submit_dir / "slurm" / "study.sh"
    edited = script.read_text().replace("num_parts=8", "num_parts=2").replace("task=8", "task=1")
    script.write_text(edited.replace("mem-per-cpu=4G", "mem-per-cpu=1G"))
    study = {
        "name": "two-arms",
        "run_file": "run.yaml",
        "overrides": OVERRIDES,
        "seeds": [0],
        "baselines": ["average"],
        "arms": {name: {"overrides": {"objective.name": name}} for name in ("average", "minimax")},
        "evaluation": {"num_samples": 60},
    }
    (submit_dir / "study.yaml").write_text(yaml.safe_dump(study))

    def submit(*options):
        command = ("slurm/submit_array.sh", *options, "slurm/study.sh", "study.yaml", "out")
        return cluster.run(*command, cwd=submit_dir)

    return submit


def test_a_part_whose_time_is_up_goes_back_into_the_queue_and_on_from_there(
    cluster, submit_dir, submit_study
):
    script = submit_dir / "slurm" / "study.sh"
    time_is_up = "[[ -n ${SLURM_RESTART_COUNT-} ]] || export SLURM_JOB_END_TIME=1\n"
    script.write_text(script.read_text().replace("\nset -euo", f"\n{time_is_up}set -euo"))
    last = submit_study().stdout.strip()
    cluster.wait_for_job(last, "COMPLETED", timeout_s=480)
    assert (submit_dir / "out" / "report.html").is_file()
    logs = [path.read_text() for path in submit_dir.glob("study-*.log")]
    assert sum("told to stop; the same command goes on from there" in log for log in logs) == 2
    for log in (submit_dir / "out" / "runs").glob("*/seed-0.log"):
        assert "saved step 1 of 2" in log.read_text()
        assert "going on after step 1" in log.read_text()


def test_parts_are_run_and_reported_and_what_is_done_is_not_submitted_again(
    cluster, submit_dir, submit_study
):
    dry = submit_study("--dry-run")
    assert re.search(r"sbatch --array=0,1 slurm/study.sh part study.yaml out", dry.stderr), dry.stderr
    last = submit_study().stdout.strip()
    cluster.wait_for_job(last, "COMPLETED", timeout_s=480)
    assert (submit_dir / "out" / "report.html").is_file()
    again = submit_study("--dry-run").stderr.splitlines()
    assert again == [
        "pipeline study: nothing is missing in out",
        "sbatch --array=0 slurm/study.sh last study.yaml out",
    ]

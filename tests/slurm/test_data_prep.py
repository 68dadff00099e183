"""slurm/data_prep.sh by slurm/submit_array.sh on a real cluster: parts, those that are missing, the merge."""

import re
import shutil

import pytest

from .conftest import PROJECT

SMALL = ("--vocab-size=1000", "--sequence-length=48", "--block-size=20000")


@pytest.fixture
def prepare(cluster, submit_dir):
    """Submit a preparation of 12 texts in 2 parts of a process each; the answer of submit_array.sh."""
    (submit_dir / "slurm").unlink()
    shutil.copytree(PROJECT / "slurm", submit_dir / "slurm")
    script = submit_dir / "slurm" / "data_prep.sh"
    edited = script.read_text().replace("num_parts=16", "num_parts=2").replace("task=8", "task=1")
    script.write_text(edited)
    (submit_dir / "texts").mkdir()
    for number in range(12):
        words = " ".join(f"The old dog number {number} ran quickly to house {line}." for line in range(200))
        (submit_dir / "texts" / f"{number}.txt").write_text(words)

    def prepare(*options):
        command = ("slurm/submit_array.sh", *options, "slurm/data_prep.sh", "new", "texts", *SMALL)
        return cluster.run(*command, cwd=submit_dir)

    return prepare


def test_parts_are_prepared_and_merged_and_what_is_done_is_not_submitted_again(cluster, submit_dir, prepare):
    dry = prepare("--dry-run")
    assert re.search(r"sbatch --array=0,1 slurm/data_prep.sh part new texts", dry.stderr), dry.stderr
    last = prepare().stdout.strip()
    cluster.wait_for_job(last, "COMPLETED", timeout_s=240)
    verified = cluster.run(".venv/bin/data_prep", "verify", "new", cwd=submit_dir)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    again = prepare("--dry-run").stderr.splitlines()
    assert again == ["sbatch --array=0 slurm/data_prep.sh last new texts " + " ".join(SMALL)]


def test_only_a_part_that_is_missing_is_submitted_again(cluster, submit_dir, prepare):
    part = (".venv/bin/data_prep", "text", "texts", "--out", "new", *SMALL, "--num-parts", "2", "--part", "1")
    done = cluster.run(*part, cwd=submit_dir, timeout_s=240)
    assert done.returncode == 0, done.stderr
    assert "sbatch --array=0 slurm/data_prep.sh part" in prepare("--dry-run").stderr


def test_a_line_that_forgets_submit_array_is_refused(cluster, submit_dir):
    answer = cluster.run("slurm/data_prep.sh", "texts", "--out", "new", cwd=submit_dir)
    assert answer.returncode == 2
    assert "submit this with slurm/submit_array.sh" in answer.stderr

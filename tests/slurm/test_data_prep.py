"""slurm/data_prep.sh by slurm/submit_array.sh on a real cluster: what it submits; test_chain.py runs it."""

from .conftest import SMALL_SHARDS


def test_all_parts_and_the_merge_are_submitted_at_first(prepare):
    part, last = prepare("--dry-run").stderr.splitlines()[::2]
    words = " ".join(("new", "texts", *SMALL_SHARDS))
    assert part == f"sbatch --array=0,1 slurm/data_prep.sh part {words}"
    assert last.startswith(
        "sbatch --array=0 --dependency=afterok:JOB --kill-on-invalid-dep=yes slurm/data_prep.sh last"
    )


def test_only_a_part_that_is_missing_is_submitted_again(cluster, submit_dir, prepare):
    part = ("text", "texts", "--out", "new", *SMALL_SHARDS, "--num-parts", "2", "--part", "1")
    done = cluster.run(".venv/bin/data_prep", *part, cwd=submit_dir, timeout_s=240)
    assert done.returncode == 0, done.stderr
    assert "sbatch --array=0 slurm/data_prep.sh part" in prepare("--dry-run").stderr


def test_a_line_that_forgets_submit_array_is_refused(cluster, submit_dir):
    answer = cluster.run("slurm/data_prep.sh", "texts", "--out", "new", cwd=submit_dir)
    assert answer.returncode == 2
    assert "submit this with slurm/submit_array.sh" in answer.stderr

"""The batch scripts, as sbatch reads them."""

from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "slurm").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_sbatch_takes_the_script(cluster, script):
    answer = cluster.run("sbatch", "--test-only", str(script))
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_option_of_sbatch_stands_after_the_first_command_where_it_would_be_ignored(script):
    lines = script.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip() and not line.startswith("#"))
    assert [line for line in lines[first:] if line.startswith("#SBATCH")] == []

"""Folders that cannot be written, and the speed of those that can."""

import re
import resource
from pathlib import Path

import pytest

from pipeline.doctor.disk import examine
from pipeline.doctor.finding import Check, State
from pipeline.doctor.isolation import examine_apart


def test_a_folder_that_does_not_exist_yet_is_judged_by_the_one_above_and_not_made(tmp_path):
    finding = examine(tmp_path / "runs" / "of" / "mine")
    assert finding.found.startswith(f"{tmp_path}: ")
    figures = re.findall(r"([\d,]+) (?:GB free|MB/s)", finding.found)
    assert len(figures) == 3
    assert all(int(figure.replace(",", "")) > 0 for figure in figures)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_broken_with_what_to_set():
    finding = examine(Path("/proc/self"))
    assert finding.state is State.BROKEN
    assert finding.found.startswith("/proc/self: cannot be written (")
    assert "out_dir=DIR" in finding.mend


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "runs").write_text("mine")
    assert examine(tmp_path / "runs").found == f"{tmp_path}/runs: cannot be written (Not a directory)"


def test_a_disk_that_takes_no_more_is_broken(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        finding = examine(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert finding.state is State.BROKEN
    assert "File too large" in finding.found


@pytest.mark.parametrize("limit_s", [0.3, 0.6, 0.9])
def test_nothing_remains_whenever_it_is_killed(tmp_path, limit_s):
    examine_apart(Check("disk", "pipeline.doctor.disk:examine", (tmp_path,), limit_s=limit_s), "spawn")
    assert list(tmp_path.iterdir()) == []

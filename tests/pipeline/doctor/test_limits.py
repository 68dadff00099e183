"""What jobs and containers take away: cores, memory, open files, shared memory."""

import resource

import pytest

from pipeline.doctor import limits
from pipeline.doctor.cgroups import core_limits, memory_limits
from pipeline.doctor.finding import State


@pytest.fixture
def soft_limit():
    """Lower a limit of this process for the time of a test."""
    before = {}

    def lower(name, value):
        before[name] = resource.getrlimit(name)
        resource.setrlimit(name, (value, before[name][1]))

    yield lower
    for name, values in before.items():
        resource.setrlimit(name, values)


def test_a_single_core_is_a_warning(one_core):
    finding = limits.examine_cores()
    assert finding.state is State.WARNING
    assert finding.found.startswith("1 of ")
    assert "data.num_workers=0" in finding.mend


def test_few_open_files_is_a_warning_with_the_command(soft_limit):
    soft_limit(resource.RLIMIT_NOFILE, 256)
    finding = limits.examine_open_files()
    assert finding.state is State.WARNING
    assert finding.found.startswith("256 for a process")
    assert finding.mend == "ulimit -n 1024"


def test_shared_memory_that_takes_nothing_is_broken(soft_limit):
    soft_limit(resource.RLIMIT_FSIZE, 1_000_000)
    finding = limits.examine_shared_memory()
    assert finding.state is State.BROKEN
    assert finding.found.startswith("/dev/shm: File too large")
    assert "--shm-size" in finding.mend


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_limits_of_control_groups_of_version_2_and_of_those_around_them_count(tmp_path):
    process = tmp_path / "cgroup"
    process.write_text("0::/slurm/job_7/step_0\n")
    group(tmp_path, "root/slurm/job_7", memory__max=8 * 1024**3, cpu__max="max 100000")
    group(tmp_path, "root/slurm/job_7/step_0", memory__max="max", cpu__max="150000 100000")
    assert memory_limits(process, tmp_path / "root") == [8 * 1024**3]
    assert core_limits(process, tmp_path / "root") == [1.5]


def test_limits_of_control_groups_of_version_1_count(tmp_path):
    process = tmp_path / "cgroup"
    process.write_text("9:name=systemd:/\n4:memory:/slurm/job_7\n2:cpu,cpuacct:/slurm/job_7\n")
    none = 9223372036854771712
    group(tmp_path, "root/memory/slurm", memory__limit_in_bytes=none)
    group(tmp_path, "root/memory/slurm/job_7", memory__limit_in_bytes=4 * 1024**3)
    group(tmp_path, "root/cpu/slurm", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    group(tmp_path, "root/cpu/slurm/job_7", cpu__cfs_quota_us=400000, cpu__cfs_period_us=100000)
    assert memory_limits(process, tmp_path / "root") == [4 * 1024**3]
    assert core_limits(process, tmp_path / "root") == [4.0]


def test_where_there_are_no_control_groups_nothing_is_limited(tmp_path):
    assert memory_limits(tmp_path / "cgroup", tmp_path) == core_limits(tmp_path / "cgroup", tmp_path) == []

"""Packages of other versions than those that the project was tested with, and missing ones."""

from pipeline.doctor import packages
from pipeline.doctor.finding import State


def test_another_version_than_the_locked_one_is_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1\ntorch==0.0.2\nno-such-package==1.0\n")
    finding = packages.examine(lock)
    assert finding.state is State.WARNING
    assert "numpy is " in finding.found
    assert ", not 0.0.1, torch is " in finding.found
    assert "no-such-package" not in finding.found


def test_only_the_first_few_are_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("".join(f"{name}==0\n" for name in ("numpy", "torch", "rich", "typer", "pyyaml")))
    assert packages.examine(lock).found.endswith("rich is " + packages.version("rich") + ", not 0 and 2 more")


def test_a_package_that_is_too_old_for_the_project_is_broken(package):
    package("rich", summary="an old one")
    finding = packages.examine()
    assert finding.state is State.BROKEN
    assert finding.found.endswith("rich is 0.0.1, not >=15")


def test_without_the_lock_file_only_the_project_s_own_requirements_count(tmp_path):
    finding = packages.examine(tmp_path / "requirements.lock")
    assert finding.state is State.WORKS
    assert "lock" not in finding.found

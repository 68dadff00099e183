"""Programs and packages as they stand on machines where something is wrong."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make a shell script the first program of its name on PATH."""

    def make(name, script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return path

    return make


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    """A PATH without any program."""
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def one_core():
    """This process, and those that it starts, on a single core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that Python looks for packages in before any other, in programs that a test starts too."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{before}" if before else str(folder))
    return folder


@pytest.fixture
def package(site):
    """Make a package there; with a summary it is an installed one of version 0.0.1."""

    def make(name, init="", summary=None):
        folder = site / name
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(init)
        if summary is not None:
            info = site / f"{name}-0.0.1.dist-info"
            info.mkdir()
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\nSummary: {summary}\n"
            (info / "METADATA").write_text(metadata)
        return folder

    return make


@pytest.fixture(scope="session")
def pipeline():
    """Run the program `pipeline`; words with = change its environment."""

    def run(*arguments, cwd, **environment):
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            timeout=300,
        )

    return run

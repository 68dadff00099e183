"""Compilers: what builds the loss kernel's operator, and what DeepSpeed builds its own operators with."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened

_PROGRAM = """#include <vector>
#include <iostream>
int main() { std::vector<int> three(3, 1); std::cout << three.size(); }
"""
_TIMEOUT_S = 20
_INSTALL = "module load gcc, or apt install g++"


def examine_compiler() -> Finding:
    """Build a program of three lines and run it."""
    named = os.environ.get("CXX")
    compiler = next(filter(None, map(shutil.which, [named] if named else ["c++", "g++", "clang++"])), None)
    if compiler is None:
        sought = f"CXX={named}" if named else "c++, g++, clang++"
        return Finding(
            State.ABSENT, f"{sought}: not on PATH; make setup builds the loss kernel with it", _INSTALL
        )
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "three.cpp"), Path(folder, "three")
        source.write_text(_PROGRAM)
        built = _run(compiler, "-std=c++20", str(source), "-o", str(program))
        if built.returncode:
            return Finding(State.BROKEN, shortened(f"{compiler} builds nothing: {built.stderr}"), _INSTALL)
        if _run(str(program)).stdout != "3":
            return Finding(State.BROKEN, f"{compiler} builds programs that do not run", _INSTALL)
    first_line, *_ = _run(compiler, "--version").stdout.splitlines() or ["builds a program"]
    return Finding(State.WORKS, f"{compiler}: {first_line}")


def examine_nvcc() -> Finding:
    """Compare CUDA's compiler with the CUDA that torch was built for."""
    import torch

    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")
    release = re.search(r"release (\S+),", _run(nvcc, "--version").stdout) if nvcc else None
    found = f"{nvcc}: {release[1]}" if release else "not found"
    if torch.version.cuda is None:
        return Finding(State.UNUSED, f"{found}; for torch's CUDA build only")
    if release is None:
        return Finding(
            State.ABSENT,
            f"{found}; only DeepSpeed's own CUDA operators are compiled with it, and no run needs one",
            f"module load cuda/{torch.version.cuda}",
        )
    if release[1].split(".")[0] != torch.version.cuda.split(".")[0]:
        return Finding(
            State.WARNING,
            f"{found}, but torch was built for {torch.version.cuda}: DeepSpeed compiles no operator",
            f"module load cuda/{torch.version.cuda}; no run needs it",
        )
    return Finding(State.WORKS, found)


def examine_ninja() -> Finding:
    """Ask it for its version."""
    ninja = shutil.which("ninja")
    if ninja is None:
        return Finding(
            State.ABSENT, "not on PATH; only DeepSpeed's own operators are built with it", "pip install ninja"
        )
    return Finding(State.WORKS, f"{ninja}: {_run(ninja, '--version').stdout.strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - no shell; programs that the user has on PATH
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )

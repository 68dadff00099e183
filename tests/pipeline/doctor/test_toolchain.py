"""Compilers that are not there, or do not compile."""

from pipeline.doctor.finding import State
from pipeline.doctor.toolchain import examine_compiler, examine_ninja, examine_nvcc


def test_without_a_compiler_on_path_the_line_says_how_to_get_one(empty_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    finding = examine_compiler()
    assert finding.state is State.ABSENT
    assert finding.found.startswith("c++, g++, clang++: not on PATH")
    assert "apt install g++" in finding.mend


def test_a_compiler_named_by_the_environment_is_the_one_that_is_tried(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert examine_compiler().found.startswith("CXX=no-such-compiler: not on PATH")


def test_a_compiler_that_fails_is_broken_and_quoted(program):
    path = program("c++", "echo 'cc1plus: no such file' >&2; exit 1")
    finding = examine_compiler()
    assert finding.state is State.BROKEN
    assert finding.found == f"{path} builds nothing: cc1plus: no such file"


def test_a_compiler_whose_programs_do_not_run_is_broken(program):
    path = program("c++", 'for last; do :; done; printf "#!/bin/sh\\nexit 1" > "$last"; chmod +x "$last"')
    assert examine_compiler().found == f"{path} builds programs that do not run"


def test_cuda_s_compiler_plays_no_part_where_torch_is_built_for_cpus(program):
    path = program("nvcc", "echo 'Cuda compilation tools, release 12.4, V12.4.131'")
    finding = examine_nvcc()
    assert finding.state is State.UNUSED
    assert finding.found.startswith(f"{path}: 12.4")


def test_without_ninja_the_line_says_what_for(empty_path):
    finding = examine_ninja()
    assert finding.state is State.ABSENT
    assert finding.mend == "pip install ninja"

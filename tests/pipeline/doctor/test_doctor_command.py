"""`pipeline doctor` as a user runs it."""

import json

import pytest

from pipeline.doctor.checks import all_checks


@pytest.fixture(scope="module")
def healthy(pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("healthy")
    return pipeline("doctor", "--json", "out/doctor.json", cwd=folder, COLUMNS="80"), folder


def test_a_machine_that_can_train_gets_a_line_per_check_within_80_columns_and_exit_code_0(healthy):
    finished, folder = healthy
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert max(map(len, finished.stdout.splitlines())) <= 80
    for check in all_checks(folder):
        assert f"\n {check.name} " in finished.stdout
    assert "Everything that pre-training needs on this machine works." in finished.stdout


def test_nothing_but_the_json_file_remains(healthy):
    _, folder = healthy
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == {"out", "out/doctor.json"}


def test_the_json_file_holds_what_the_table_shows(healthy):
    finished, folder = healthy
    content = json.loads((folder / "out" / "doctor.json").read_text())
    assert content["works"] is True
    assert [check["name"] for check in content["checks"]] == [check.name for check in all_checks(folder)]
    shown = "".join(finished.stdout.split())  # wherever the lines were broken
    for check in content["checks"]:
        row = f"{check['name']}{check['state']}{check['found']}"
        assert "".join(row.split()) in shown
        assert bool(check["mend"]) == (check["state"] in ("warning", "broken")) or check["state"] == "absent"


def test_where_torch_is_broken_doctor_says_so_tries_the_rest_and_exits_1(pipeline, package, tmp_path):
    package("torch", "raise ImportError('libcudart.so.13: no such file')")
    finished = pipeline("doctor", cwd=tmp_path, COLUMNS="200")
    assert finished.returncode == 1, finished.stderr
    lines = [line.rstrip() for line in finished.stdout.splitlines()]
    (row,) = (number for number, line in enumerate(lines) if line.startswith(" torch "))
    assert lines[row].split(maxsplit=2)[1:] == ["broken", "cannot be imported: libcudart.so.13: no such file"]
    assert lines[row + 1].strip() == "→ make setup, or pip install -r requirements.lock"
    assert finished.stdout.count("not tried, since torch is broken") == 8
    (disk,) = (line for line in lines if line.startswith(" disk "))
    assert disk.split()[1] == "works"
    assert "Pre-training does not run here before this is mended: torch, GPUs, NCCL" in finished.stdout


def test_of_several_tasks_on_a_node_one_speaks(pipeline, tmp_path):
    finished = pipeline("doctor", cwd=tmp_path, SLURM_LOCALID="1")
    assert (finished.returncode, finished.stdout) == (0, "")

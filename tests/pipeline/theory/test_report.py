"""`pipeline theory` as its users meet it."""

import json
import re
import sys

import matplotlib.image
import pytest

from data_prep.errors import run_program
from pipeline.__main__ import app

NAMES = ["theorem-3.1", "proposition-5.1", "remark-5.2", "proposition-5.3", "theorem-5.4"]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pipeline", "theory", *arguments])
    with pytest.raises(SystemExit) as stop:
        run_program("pipeline", app)
    return stop.value.code


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theory") / "out"
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, "--out", str(folder), "--max-steps", "1000", "--num-tasks", "3") == 0
    return folder


def test_every_inequality_that_must_hold_did(report):
    results = json.loads((report / "results.json").read_text())
    assert [name for name in results if name != "seed"] == NAMES
    assert all(all(results[name]["checks"].values()) and results[name]["checks"] for name in NAMES)


def test_the_page_shows_every_statement_its_figure_and_where_its_proof_is_ours(report):
    page = (report / "index.html").read_text()
    assert re.findall(r'<img src="([^"]+)"', page) == [f"{name}.png" for name in NAMES]
    assert page.count("ours") == len(NAMES)
    assert all(matplotlib.image.imread(report / f"{name}.png").std() > 0 for name in NAMES)


def test_the_same_seed_gives_the_same_numbers(report, tmp_path, monkeypatch):
    assert run(monkeypatch, "--out", str(tmp_path), "--max-steps", "1000", "--num-tasks", "3") == 0
    assert (tmp_path / "results.json").read_text() == (report / "results.json").read_text()


def test_a_file_for_a_folder_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert run(monkeypatch, "--out", str(tmp_path / "file")) == 2
    assert capsys.readouterr().err.count("\n") == 1

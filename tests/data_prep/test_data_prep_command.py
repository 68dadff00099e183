"""The program as its users call it."""

import signal
import subprocess
import sys
import time

import pytest

from data_prep.__main__ import main
from data_prep.schema import read_manifest
from data_prep.tagging.tag_map import load_tag_map

TASK_NAMES = load_tag_map().task_names
INTERJECTION = TASK_NAMES.index("interjection")


def data_prep(*arguments):
    command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def contents(folder):
    """Every file and folder below a folder, files with their bytes; the log of progress aside."""
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
        if not path.name.endswith(".log.jsonl")
    }


@pytest.fixture
def place(tmp_path):
    """A folder with inputs good and bad, and one that is occupied."""
    (tmp_path / "good.txt").write_text("A sentence to read.\n\nAnd another.")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "white.txt").write_text(" \n\t\n")
    (tmp_path / "latin1.txt").write_bytes("café".encode("latin1"))
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "precious").write_text("data")
    return tmp_path


MISTAKES = {
    "missing file": ("text {}/absent.txt --out {}/out", "absent.txt: no such file; "),
    "empty corpus": ("text {}/empty.jsonl --out {}/out", "empty.jsonl: no text in the corpus; give files"),
    "white space": ("text {}/white.txt --out {}/out", "white.txt: no text in the corpus; for example, "),
    "not UTF-8": ("text {}/latin1.txt --out {}/out", "latin1.txt was left out: not UTF-8 (byte 3"),
    "occupied folder": ("text {}/good.txt --out {}/occupied", "occupied: already holds files; "),
    "unknown option": ("text {}/good.txt --out {}/out --sequnce-length 64", "--sequence-length"),
    "no --out": ("text {}/good.txt", "Missing option '--out'"),
}


@pytest.mark.parametrize(("arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_on_one_line_exits_2_and_changes_no_file(place, arguments, said):
    before = contents(place)
    result = data_prep(*arguments.replace("{}", str(place)).split())
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("data_prep: error: ")
    assert len(result.stderr.splitlines()) == 1
    assert (result.returncode, result.stdout) == (2, "")
    assert contents(place) == before


def test_a_run_that_is_told_to_stop_shows_no_shards_and_the_same_command_goes_on(
    documents, corpus_file, tmp_path
):
    corpus, out = corpus_file(documents), tmp_path / "out"
    command = [sys.executable, "-m", "data_prep", "text", str(corpus), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not (out / ".work" / "plan" / "plan.json").exists():
            assert run.poll() is None
            time.sleep(0.01)
        run.terminate()
    assert run.returncode == 128 + signal.SIGTERM
    assert [path.name for path in out.iterdir()] == [".work"]
    assert data_prep("verify", out).returncode != 0
    assert data_prep("text", corpus, "--out", out).returncode == 0
    assert data_prep("verify", out).returncode == 0


def test_debug_shows_the_traceback_of_a_mistake(place):
    result = data_prep("text", place / "absent.txt", "--out", place / "out", "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("data_prep: error: ")
    assert result.returncode == 2


@pytest.mark.parametrize("command", ["text", "merge", "verify", "inspect", "tag-accuracy", "embedded"])
def test_help_shows_an_example(monkeypatch, capsys, command):
    monkeypatch.setattr(sys, "argv", ["data_prep", command, "--help"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert f"Example: data_prep {command} " in capsys.readouterr().out
    assert stop.value.code == 0


@pytest.fixture(scope="module")
def without_interjections(documents, tagger):
    """The part of the sixty documents in which the tagger finds no interjection."""
    return [
        document
        for document, paragraphs in tagger.tag(documents)
        if not any((paragraph.tasks == INTERJECTION).any() for paragraph in paragraphs)
    ]


def test_a_corpus_without_interjections_is_prepared_with_a_warning_that_names_them(
    without_interjections, corpus_file, tokenizer_file, tmp_path
):
    corpus = corpus_file(without_interjections)
    options = (
        f"--tokenizer {tokenizer_file} --sequence-length 64 --validation-share 0.1 --test-share 0.2 --seed 7"
    )
    result = data_prep("text", corpus, "--out", tmp_path / "out", *options.split())
    assert result.returncode == 0
    (warning,) = [line for line in result.stderr.splitlines() if "warning: interjection" in line]
    assert "no " in warning
    assert all(task in result.stdout for task in TASK_NAMES)
    assert read_manifest(tmp_path / "out").train_rows("interjection") == 0


OTHER_MISTAKES = {
    "too little text": ("text {}/good.txt --out {}/out", "too small to hold a test split out: "),
    "no command": ("", "command"),
    "unknown command": ("txt", "Did you mean 'text'?"),
    "value out of range": ("text {}/good.txt --out {}/out --sequence-length 8", "'--sequence-length'"),
    "embedded corpus as text": ("embedded {}/corpus.txt", "corpus.txt: the corpus is written as .jsonl; "),
    "embedded corpus over a file": ("embedded {}/empty.jsonl", "empty.jsonl: exists already; "),
}


@pytest.mark.parametrize(("arguments", "said"), OTHER_MISTAKES.values(), ids=OTHER_MISTAKES)
def test_any_other_mistake_is_told_alike(place, monkeypatch, capsys, arguments, said):
    before = contents(place)
    monkeypatch.setattr(sys, "argv", ["data_prep", *arguments.replace("{}", str(place)).split()])
    with pytest.raises(SystemExit) as stop:
        main()
    stderr = capsys.readouterr().err
    assert stderr.startswith("data_prep: error: ")
    assert said in stderr
    assert len(stderr.splitlines()) == 1
    assert stop.value.code == 2
    assert contents(place) == before

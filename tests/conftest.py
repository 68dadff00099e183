"""Shards that all tests of training share: a part of the embedded corpus, prepared once."""

import importlib
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

from .ready_python import ReadyPython

os.environ.setdefault("OMP_NUM_THREADS", "1")


def import_triton():
    """Triton's own functions are interpreted or compiled for good as it is imported, by whomever.

    The tests of kernels need them interpreted (with TRITON_INTERPRET=0 compiled, on a GPU), nobody else
    needs them at all.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", os.environ.get("TRITON_INTERPRET", "1"))
        importlib.import_module("triton")


import_triton()


@pytest.fixture
def call_pipeline(monkeypatch, capfd):
    """`pipeline ARGUMENTS` in this process: exit code, what is printed, lines of errors and warnings."""
    from data_prep.errors import run_program
    from pipeline.__main__ import app

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        terminated = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as end:
                run_program("pipeline", app)
        finally:
            signal.signal(signal.SIGTERM, terminated)
        said = capfd.readouterr()
        errors = [line for line in said.err.splitlines() if line.startswith("pipeline: ")]
        return end.value.code, said.out, errors

    return call


@pytest.fixture(scope="session")
def ready_python():
    python = ReadyPython()
    yield python
    python.close()


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    from data_prep.corpus.embedded import embedded_corpus
    from data_prep.passes.job import Settings
    from data_prep.passes.prepare import Preparation, begin
    from data_prep.progress import Monitor

    folder = tmp_path_factory.mktemp("corpus")
    texts, out = folder / "texts", folder / "shards"
    texts.mkdir()
    for number, document in enumerate(itertools.islice(embedded_corpus(), 120)):
        (texts / f"{number:03d}.txt").write_text(document.text)
    settings = Settings(vocab_size=1_000, sequence_length=48, test_share=0.1, validation_share=0.1)
    preparation = Preparation(begin([str(texts)], out, settings, None).job, Monitor())
    preparation.prepare()
    preparation.merge()
    return out

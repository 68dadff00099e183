"""Shards that all tests of training share: a part of the embedded corpus, prepared once."""

import importlib
import itertools
import os
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

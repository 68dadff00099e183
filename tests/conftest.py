"""Shards that all tests of training share: a part of the embedded corpus, prepared once."""

import itertools
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    from data_prep.corpus.documents import Corpus
    from data_prep.corpus.embedded import embedded_corpus
    from data_prep.passes.prepare import Settings, prepare_text

    folder = tmp_path_factory.mktemp("corpus")
    for number, document in enumerate(itertools.islice(embedded_corpus(), 120)):
        (folder / f"{number:03d}.txt").write_text(document.text)
    settings = Settings(vocab_size=1_000, sequence_length=48, shares={"test": 0.1, "validation": 0.1}, seed=0)
    prepare_text(Corpus(tuple(sorted(folder.glob("*.txt")))), folder / "shards", settings)
    return folder / "shards"

"""The corpus that every Python carries."""

import itertools
import subprocess
import sys

import pytest

from data_prep.corpus.embedded import embedded_corpus
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import find_sources


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The corpus as the program writes it."""
    path = tmp_path_factory.mktemp("embedded") / "new" / "corpus.jsonl"
    command = [sys.executable, "-m", "data_prep", "embedded", str(path)]
    written = subprocess.run(command, capture_output=True, text=True, check=True)
    documents = list(read_source(find_sources([str(path)]).sources[0]))
    assert f"{path}: {len(documents)} documents" in written.stdout
    assert [file.name for file in path.parent.iterdir()] == ["corpus.jsonl"]
    return documents


def test_it_holds_more_than_a_hundred_thousand_words(corpus):
    assert sum(len(document.text.split()) for document in corpus) > 100_000


@pytest.mark.parametrize("mark", [">>>", "_", "%", "=", "`", "*", "|", "\\", "{", "<"])
def test_it_holds_no_code(corpus, mark):
    assert [document.doc_id for document in corpus if mark in document.text] == []


def test_its_documents_have_names_of_their_own_and_share_no_paragraph(corpus):
    names = [document.doc_id for document in corpus]
    paragraphs = [paragraph for document in corpus for paragraph in document.text.split("\n\n")]
    assert len(set(names)) == len(names)
    assert len(set(paragraphs)) == len(paragraphs)


def test_it_is_the_same_in_another_process(corpus):
    first = list(itertools.islice(embedded_corpus(), 150))
    assert first == corpus[:150]

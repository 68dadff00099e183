"""The real tagger, a small tokenizer, and a small corpus of real English prepared once."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import spacy

from data_prep.corpus.documents import Document
from data_prep.corpus.embedded import embedded_corpus
from data_prep.passes.job import Settings
from data_prep.passes.prepare import Preparation, begin
from data_prep.progress import Monitor
from data_prep.schema import Manifest
from data_prep.sequences.tokenizer import train_tokenizer
from data_prep.tagging.tagger import Tagger

SETTINGS = Settings(
    vocab_size=600, sequence_length=64, test_share=0.1, validation_share=0.1, seed=3, block_size=60_000
)


@dataclass(frozen=True)
class Folder:
    """A folder of shards and the documents it was made from."""

    path: Path
    documents: list[Document]
    manifest: Manifest


def write_corpus(path, documents):
    lines = [json.dumps({"id": document.doc_id, "text": document.text}) for document in documents]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def prepare_files(files, out, tag_map=None, **changes):
    """Prepare files in this process, with `SETTINGS` unless changed."""
    settings = Settings.model_validate(SETTINGS.model_dump() | changes)
    job = begin([str(file) for file in files], out, settings, tag_map).job
    preparation = Preparation(job, Monitor())
    preparation.prepare()
    return preparation.merge()


def _prepare(corpus, out, documents, changes):
    return Folder(out, documents, prepare_files([write_corpus(corpus, documents)], out, **changes))


@pytest.fixture
def corpus_file(tmp_path):
    """A function that writes documents as a .jsonl file."""
    return lambda documents: write_corpus(tmp_path / "corpus.jsonl", documents)


@pytest.fixture
def prepare(tmp_path):
    """A function that prepares documents; settings are those of `prepared` unless named."""

    def run(documents, out="shards", **changes):
        return _prepare(tmp_path / "corpus.jsonl", tmp_path / out, documents, changes)

    return run


@pytest.fixture(scope="session")
def tagger():
    return Tagger()


@pytest.fixture(scope="session")
def nlp(tagger):
    """The tagger's spaCy pipeline once more, with all that could change a tag."""
    nlp = spacy.load(tagger.component.name, exclude=["parser", "ner", "lemmatizer"])
    nlp.enable_pipe("senter")
    return nlp


@pytest.fixture(scope="session")
def documents():
    """Sixty documents of real English."""
    return list(itertools.islice(embedded_corpus(), 60))


@pytest.fixture(scope="session")
def tokenizer(documents):
    return train_tokenizer((document.text for document in documents), 600)


@pytest.fixture(scope="session")
def tokenizer_file(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def prepared(documents, tmp_path_factory):
    """The sixty documents, each with some interjections, as a folder of shards."""
    folder = tmp_path_factory.mktemp("prepared")
    cries = "Oh no, said the reader. Yes, hello, well, wow!"
    documents = [Document(item.doc_id, f"{item.text}\n\n{cries}") for item in documents]
    return _prepare(folder / "corpus.jsonl", folder / "shards", documents, {})

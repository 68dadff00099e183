"""Real books from raw text to shards; a part of them, so that it takes seconds."""

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

BOOKS = Path(__file__).parents[2].parent / "shared" / "data" / "text"
GLUE = BOOKS.parent / "glue" / "rte"
NUM_BOOKS, CHARACTERS = 24, 30_000


def data_prep(*arguments):
    command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The beginnings of books, in the compressed file that they come in."""
    if not BOOKS.is_dir():
        pytest.skip(f"needs books: {BOOKS} is absent")
    path = tmp_path_factory.mktemp("books") / "books.jsonl.gz"
    files = sorted(BOOKS.glob("*.jsonl.gz"))
    lines = itertools.chain.from_iterable(gzip.decompress(file.read_bytes()).splitlines() for file in files)
    with gzip.open(path, "wt") as file:
        for line in itertools.islice(lines, NUM_BOOKS):
            book = json.loads(line)
            file.write(json.dumps(book | {"text": book["text"][:CHARACTERS]}) + "\n")
    return path


@pytest.fixture(scope="module")
def shards(corpus):
    out = corpus.parent / "shards"
    arguments = ("--vocab-size", 4_000, "--block-size", 200_000, "--num-workers", 2, "--decontaminate", GLUE)
    data_prep("text", corpus, "--out", out, "--validation-share", 0.1, "--test-share", 0.1, *arguments)
    return out


def test_books_become_shards_that_verify(shards):
    assert "all is well" in data_prep("verify", shards).stdout


def test_every_shard_of_books_opens_in_arrow_and_in_datasets(shards, tmp_path):
    paths = sorted(shards.rglob("*.arrow"))
    assert len(paths) == 9 + 2
    for path in paths:
        with pa.ipc.open_stream(path) as stream:
            rows = stream.read_all().num_rows
        loaded = datasets.load_dataset("arrow", data_files=str(path), split="train", cache_dir=str(tmp_path))
        assert loaded.num_rows == rows > 0


def test_every_book_is_kept_and_every_task_has_sequences(shards):
    manifest = json.loads((shards / "manifest.json").read_text())
    assert sum(manifest["documents"].values()) == NUM_BOOKS
    assert {shard["task"] for shard in manifest["shards"]} == {*manifest["task_names"], None}


def test_books_can_be_looked_at(shards, tmp_path):
    page = tmp_path / "books.html"
    said = data_prep("inspect", shards, "--html", page).stdout
    assert "interjection" in said
    assert "interjection" in page.read_text()

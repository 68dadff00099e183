"""Speed and memory of `data_prep text`, as whole processes on this machine.

    python bench/preparation.py speed books/*.jsonl.gz      words per CPU second, against a bare spaCy loop
    python bench/preparation.py workers books/*.jsonl.gz    wall time of 1 and 2 workers
    python bench/preparation.py memory books/*.jsonl.gz     peak memory of a text, and of four times as much

`speed` and `workers` interleave their rounds. In `memory` the further copies have other words than the first,
since repeated text would hide whatever grows with the vocabulary.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from machine import machine
from rich.console import Console
from rich.table import Table

from data_prep.corpus.documents import Document
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import find_sources
from data_prep.sequences.tokenizer import train_tokenizer

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode="rich")
console = Console(highlight=False)

# The bare loop: the pipeline as spaCy loads it, without what finding tags does not need.
_SPACY_LOOP = """
import json, pathlib, sys, spacy
nlp = spacy.load(sys.argv[1], exclude=["parser", "ner", "lemmatizer"])
lines = (line for path in pathlib.Path(sys.argv[2]).iterdir() for line in path.open())
texts = (paragraph for line in lines for paragraph in json.loads(line)["text"].split("\\n\\n"))
for doc in nlp.pipe(texts):
    tags = [token.tag_ for token in doc]
"""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"), "1")

Texts = Annotated[list[str], typer.Argument(help="Files or folders, as data_prep text takes them.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds of each, interleaved.")]
Words = Annotated[int, typer.Option(min=10_000, help="Words to take.")]


@dataclass(frozen=True)
class Run:
    """What a process used, with all its children."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Of the process, or the largest of its children."""


@app.command()
def speed(texts: Texts, words: Words = 1_000_000, rounds: Rounds = 3) -> None:
    """Words per CPU second from raw text to finished shards (tokenizer given, one worker), against spaCy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, count = _write_corpus(folder, _documents(texts, words))
        tokenizer = _train(folder, corpus)
        found: dict[str, list[float]] = {"bare nlp.pipe": [], "data_prep text": []}
        for number in range(rounds):
            loop = _measure([sys.executable, "-c", _SPACY_LOOP, _tagger(), str(corpus)])
            whole = _measure(_data_prep(corpus, folder / f"shards-{number}", tokenizer))
            found["bare nlp.pipe"].append(count / loop.cpu_s)
            found["data_prep text"].append(count / whole.cpu_s)
    ratios = [ours / bare for bare, ours in zip(*found.values(), strict=True)]
    _print(f"{count:,} words, {rounds} rounds, whole processes, one thread", "words per CPU s", found)
    console.print(f"Ratio: {_spread(ratios, '.2f')}")


@app.command()
def workers(texts: Texts, words: Words = 2_000_000, rounds: Rounds = 3) -> None:
    """Wall time with 1 and 2 workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, count = _write_corpus(folder, _documents(texts, words))
        tokenizer = _train(folder, corpus)
        found: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
        stage: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
        for number in range(rounds):
            for amount, label in ((1, "1 worker"), (2, "2 workers")):
                out = folder / f"shards-{number}-{amount}"
                run = _measure([*_data_prep(corpus, out, tokenizer), "--num-workers", str(amount)])
                found[label].append(run.wall_s)
                stage[label].append(_tagging_seconds(out))
    _print(f"{count:,} words, {rounds} rounds", "wall s, whole process", found)
    _print("", "wall s, tagging alone", stage)
    for what, times in (("Whole process", found), ("Tagging", stage)):
        ratios = [one / two for one, two in zip(*times.values(), strict=True)]
        console.print(f"{what}: 2 workers are {_spread(ratios, '.2f')} times as fast as 1")


@app.command()
def memory(texts: Texts, copies: int = 4, num_workers: int = 1) -> None:
    """Peak memory of a process for the texts, and for them with so many altered copies."""
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for amount in (1, copies):
            part = folder / str(amount)
            part.mkdir()
            corpus, count = _write_corpus(part, _altered(texts, amount))
            command = _data_prep(corpus, part / "shards", None)
            run = _measure([*command, "--num-workers", str(num_workers)])
            size = sum(path.stat().st_size for path in corpus.iterdir())
            label = f"{size / 1e6:,.0f} MB, {count:,} words"
            rows[label] = [run.peak_bytes / 1e6]
    _print(f"{num_workers} workers", "peak MB of a process", rows)


def _documents(texts: list[str], words: int) -> Iterator[Document]:
    for source in find_sources(texts).sources:
        for document in read_source(source):
            if isinstance(document, Document):
                yield document
                words -= len(document.text.split())
                if words <= 0:
                    return


def _altered(texts: list[str], copies: int) -> Iterator[Document]:
    """All documents, once as they are and then with other letters in their words."""
    consonants = "bcdfghjklmnpqrstvwxz"
    for copy in range(copies):
        rotated = consonants[copy:] + consonants[:copy]
        letters = str.maketrans(consonants, rotated)
        for document in _documents(texts, sys.maxsize):
            yield Document(f"{document.doc_id}-{copy}", document.text.translate(letters))


def _write_corpus(folder: Path, documents: Iterator[Document]) -> tuple[Path, int]:
    """Documents in eight files of a folder, paragraphs without line breaks; and their words."""
    path, words = folder / "corpus", 0
    path.mkdir()
    files = [(path / f"{number}.jsonl").open("w") for number in range(8)]
    for number, document in enumerate(documents):
        text = "\n\n".join(document.paragraphs)
        words += len(text.split())
        line = json.dumps({"id": document.doc_id, "text": text}, ensure_ascii=False)
        files[number % len(files)].write(line + "\n")
    for file in files:
        file.close()
    return path, words


def _texts(corpus: Path) -> Iterator[str]:
    for source in find_sources([str(corpus)]).sources:
        yield from (document.text for document in read_source(source) if isinstance(document, Document))


def _train(folder: Path, corpus: Path) -> Path:
    path = folder / "tokenizer.json"
    train_tokenizer(_texts(corpus), 30_522).save(str(path))
    return path


def _data_prep(corpus: Path, out: Path, tokenizer: Path | None) -> list[str]:
    command = [sys.executable, "-m", "data_prep", "text", str(corpus), "--out", str(out)]
    return [*command, "--tokenizer", str(tokenizer)] if tokenizer else command


def _measure(command: list[str]) -> Run:
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - the benchmark's own commands
        command, env=os.environ | _ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed; run it to see why")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(time.perf_counter() - start, cpu, usage.ru_maxrss * 1024)


def _tagging_seconds(out: Path) -> float:
    lines = out.with_name(f"{out.name}.log.jsonl").read_text().splitlines()
    ends = [line for line in map(json.loads, lines) if (line["stage"], line["event"]) == ("tagging", "end")]
    return float(ends[-1]["elapsed_s"])


def _tagger() -> str:
    from data_prep.tagging.tagger import Tagger

    return Tagger().component.name


def _print(title: str, unit: str, rows: dict[str, list[float]]) -> None:
    if title:
        console.print(f"{title}; {machine()}")
    table = Table("", *((unit,) if len(next(iter(rows.values()))) == 1 else ("min", "median", "max")))
    for name, values in rows.items():
        shown = values if len(values) == 1 else [min(values), statistics.median(values), max(values)]
        table.add_row(name, *(f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" for value in shown))
    if table.columns[-1].header != unit:
        table.title, table.title_justify = unit, "left"
    console.print(table)


def _spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    app()

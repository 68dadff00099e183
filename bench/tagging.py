"""Tagging speed against a bare spaCy loop, both on one thread: words per CPU-second, interleaved rounds.

    python bench/tagging.py books.jsonl.gz notes.txt --words 300000 --rounds 3

Both tag the same paragraphs. The bare loop is `nlp.pipe` over the pipeline's default components without
parser, NER and lemmatizer. Exits 1 if a tag or a sentence start differs.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import spacy
from machine import machine
from rich.console import Console
from rich.table import Table
from spacy.language import Language
from spacy.tokens import Doc
from threadpoolctl import threadpool_limits

from data_prep.corpus.documents import Document
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import find_sources
from data_prep.tagging import network
from data_prep.tagging.annotation import PlainAnnotator
from data_prep.tagging.fast_annotation import FastAnnotator
from data_prep.tagging.lexicon import Lexicon
from data_prep.tagging.tagger import TaggedParagraph, Tagger

CONSOLE = Console()
NOT_NEEDED = ["parser", "ner", "lemmatizer"]


def main() -> int:
    """Run the rounds and print the tables; 1 where the two disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", nargs="+", help="files or folders, as data_prep text takes them")
    parser.add_argument("--words", type=int, default=300_000, help="words to tag (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (default: %(default)s)")
    parser.add_argument("--tagger", help="spaCy pipeline; en_core_web_sm if not given")
    options = parser.parse_args()
    document = Document("bench", "\n\n".join(first_paragraphs(options.texts, options.words)))
    num_words = len(document.text.split())

    with threadpool_limits(1):
        speeds: dict[str, list[float]] = {"spaCy": [], "data_prep": []}
        differences = 0
        for _ in range(options.rounds):
            nlp = default_pipeline(options.tagger)
            start = time.process_time()
            expected = [columns(doc) for doc in nlp.pipe(document.paragraphs)]
            speeds["spaCy"].append(num_words / (time.process_time() - start))

            tagger = Tagger(options.tagger)
            start = time.process_time()
            ((_, paragraphs),) = tagger.tag([document])
            speeds["data_prep"].append(num_words / (time.process_time() - start))
            differences += count_differences(expected, paragraphs, tagger, nlp)
        stages = profile(document, options.tagger)

    CONSOLE.print(
        f"{num_words:,} words, {options.rounds} rounds, one thread; {machine('spacy', 'thinc', 'numpy')}",
        highlight=False,
    )
    print_speeds(speeds)
    print_stages(stages, num_words)
    CONSOLE.print(f"Words whose task, place or sentence start differs: {differences:,}", highlight=False)
    return 1 if differences else 0


def first_paragraphs(names: list[str], num_words: int) -> Iterator[str]:
    """Paragraphs of the files until there are enough words."""
    for source in find_sources(names).sources:
        for document in read_source(source):
            for paragraph in document.paragraphs if isinstance(document, Document) else []:
                yield paragraph
                num_words -= len(paragraph.split())
                if num_words <= 0:
                    return


def default_pipeline(name: str | None) -> Language:
    """The pipeline as spaCy loads it, with its sentence recogniser, which stands in for the parser."""
    nlp = spacy.load(name or Tagger().component.name, exclude=NOT_NEEDED)
    if "senter" in nlp.disabled:
        nlp.enable_pipe("senter")
    return nlp


def columns(doc: Doc) -> np.ndarray:
    """What the tagger gives: tag, place, length and sentence start of each word."""
    return doc.to_array(["TAG", "IDX", "LENGTH", "SENT_START"]).astype(np.int64)


def count_differences(
    expected: list[np.ndarray], paragraphs: list[TaggedParagraph], tagger: Tagger, nlp: Language
) -> int:
    """Words with another task, place or sentence start; all words of a text that is cut otherwise."""
    differences = 0
    for (tags, starts, lengths, sentences), own in zip(
        (array.T for array in expected), paragraphs, strict=True
    ):
        if len(tags) != len(own.tasks):
            differences += len(tags)
            continue
        tasks = [tagger.tag_map.task_of_tag(nlp.vocab.strings[int(tag) % 2**64]) for tag in tags]
        is_start = sentences == 1
        is_start[0] = True
        same = (own.tasks == tasks) & (own.starts == starts) & (own.ends == starts + lengths)
        differences += int((~(same & (own.sentence_starts == is_start))).sum())
    return differences


class Stopwatch:
    """CPU seconds per stage, without those of the stages inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.stack: list[str] = []
        self._last = time.process_time()

    def timed(self, function: Callable[..., Any], stage: Callable[[Any], str]) -> Callable[..., Any]:
        """The method `function`, on this watch; `stage` names its stage, given its object."""

        def run(owner: Any, *arguments: Any) -> Any:
            self._note()
            self.stack.append(stage(owner))
            try:
                return function(owner, *arguments)
            finally:
                self._note()
                self.stack.pop()

        return run

    def _note(self) -> None:
        now = time.process_time()
        if self.stack:
            self.seconds[self.stack[-1]] += now - self._last
        self._last = now


def profile(document: Document, name: str | None) -> Counter[str]:
    """CPU seconds of each stage of `Tagger.tag`."""
    tagger = Tagger(name)
    watch = Stopwatch()

    def network_stage(owner: Any) -> str:
        return "senter" if owner.width != widest else "gather, output layer, argmax"

    def layer_stage(owner: Any) -> str:
        return "senter" if watch.stack[-1] == "senter" else "convolutions"

    widest = max((item.width for item in getattr(tagger._annotator, "_networks", ())), default=0)
    stages: list[tuple[Any, str, Callable[[Any], str]]] = [
        (PlainAnnotator, "annotate", lambda owner: "texts left to spaCy"),
        (FastAnnotator, "annotate", lambda owner: "splitting, arrays of words"),
        (Lexicon, "look_up", lambda owner: "looking up words"),
        (Lexicon, "_learn", lambda owner: "tokenizer, for new words"),
        (network.ConvolutionalTagger, "embed", lambda owner: "embedding, for new words"),
        (network.ConvolutionalTagger, "labels", network_stage),
        (network._Convolution, "__call__", layer_stage),
    ]
    with contextlib.ExitStack() as patches:
        for owner, method, stage in stages:
            patches.enter_context(
                mock.patch.object(owner, method, watch.timed(getattr(owner, method), stage))
            )
        start = time.process_time()
        for _ in tagger.tag([document]):
            pass
        total = time.process_time() - start
    watch.seconds["paragraphs, cutting, batches"] = total - sum(watch.seconds.values())
    return watch.seconds


def print_speeds(speeds: dict[str, list[float]]) -> None:
    """A row for each way, and the ratio of each round."""
    table = Table("", title="Words per CPU-second", title_justify="left")
    for column in ("min", "median", "max"):
        table.add_column(column, justify="right")
    for name, values in speeds.items():
        table.add_row(name, *(f"{value:,.0f}" for value in spread(values)))
    ratios = [own / bare for bare, own in zip(*speeds.values(), strict=True)]
    table.add_row("ratio", *(f"{value:.2f}" for value in spread(ratios)), style="bold")
    CONSOLE.print(table)


def print_stages(stages: Counter[str], num_words: int) -> None:
    """A row for each stage of this project's way."""
    table = Table("stage", title="Where its time goes", title_justify="left")
    for column in ("µs per word", "share"):
        table.add_column(column, justify="right")
    total = sum(stages.values())
    for stage, seconds in stages.most_common():
        table.add_row(stage, f"{seconds / num_words * 1e6:.2f}", f"{seconds / total:.1%}")
    CONSOLE.print(table)


def spread(values: list[float]) -> tuple[float, float, float]:
    """Minimum, median, maximum."""
    return min(values), statistics.median(values), max(values)


if __name__ == "__main__":
    sys.exit(main())

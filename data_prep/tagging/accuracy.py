"""How well a tagger finds the tasks of words, against gold tags in a CoNLL-U file."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from spacy.tokens import Doc
from spacy.training.converters.conllu_to_docs import conllu_sentence_to_doc
from spacy.vocab import Vocab

from data_prep.errors import UserError, one_line
from data_prep.schema import NO_TASK
from data_prep.tagging.tagger import Tagger

_NUM_COLUMNS = 10
_NUM_CONFUSIONS = 12


@dataclass(frozen=True)
class TaskAccuracy:
    """Precision, recall and F1 of one task; 0 where nothing was to be found."""

    task: str
    gold_words: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """Words with a gold tag that got another task; None is no task."""

    gold_tag: str
    gold_task: str | None
    predicted_task: str | None
    words: int


@dataclass(frozen=True)
class Accuracy:
    """Agreement with the gold tags; `accuracy` is over all words, where no task is a class of its own."""

    words: int
    accuracy: float
    tasks: list[TaskAccuracy]
    confusions: list[Confusion]
    """All that occur, the most frequent first."""


def tag_accuracy(gold: Path, tagger: Tagger) -> Accuracy:
    """Tag the words of a CoNLL-U file, and compare their tasks with those of the gold tags.

    Args:
        gold: the tags are in its XPOS column, or in UPOS where the tag map is over universal tags.
        tagger: tags the gold words; it does not cut the text itself.

    Raises:
        UserError: not a CoNLL-U file, or none of its tags belongs to a task.
    """
    docs = list(_sentences(gold))
    sentences = [([token.text for token in doc], [bool(token.whitespace_) for token in doc]) for doc in docs]
    predicted = np.concatenate([*tagger.tasks_of_words(sentences), np.empty(0, np.uint8)])
    attribute = f"{tagger.tag_map.attribute}_"
    tags = [getattr(token, attribute) for doc in docs for token in doc]
    wanted = np.array([tagger.tag_map.task_of_tag(tag) for tag in tags], np.uint8)
    if (wanted == NO_TASK).all():
        seen = ", ".join(tag for tag, _ in Counter(tags).most_common(8)) or "none"
        raise UserError(
            f"{gold}: no gold tag belongs to a task (tags: {seen}); give the --tag-map of these tags"
        )
    return Accuracy(
        words=len(wanted),
        accuracy=float(accuracy_score(wanted, predicted)),
        tasks=_task_accuracies(wanted, predicted, tagger.task_names),
        confusions=_confusions(tags, wanted, predicted, tagger.task_names),
    )


def print_accuracy(accuracy: Accuracy, console: Console) -> None:
    """Print a table of the tasks and one of the most frequent confusions."""
    table = Table("task", title="Tasks of words against gold tags", title_justify="left")
    for column in ("gold words", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for task in accuracy.tasks:
        scores = [f"{score:.1%}" for score in (task.precision, task.recall, task.f1)]
        table.add_row(task.task, f"{task.gold_words:,}", *(scores if task.gold_words else ["–"] * 3))
    console.print(table)
    summary = (
        f"{accuracy.accuracy:.1%} of {accuracy.words:,} words have the task that their gold tag asks for."
    )
    console.print(summary, highlight=False)
    if not accuracy.confusions:
        return
    table = Table("gold tag", "its task", "tagged as", title="Most frequent confusions", title_justify="left")
    table.add_column("words", justify="right")
    for item in accuracy.confusions[:_NUM_CONFUSIONS]:
        tasks = [task or "no task" for task in (item.gold_task, item.predicted_task)]
        table.add_row(item.gold_tag, *tasks, f"{item.words:,}")
    console.print(table)


def _task_accuracies(
    wanted: NDArray[np.uint8], predicted: NDArray[np.uint8], names: tuple[str, ...]
) -> list[TaskAccuracy]:
    labels = list(range(len(names)))
    scores = precision_recall_fscore_support(wanted, predicted, labels=labels, zero_division=0)
    return [
        TaskAccuracy(name, int(words), float(precision), float(recall), float(f1))
        for name, precision, recall, f1, words in zip(names, *scores, strict=True)
    ]


def _confusions(
    tags: list[str], wanted: NDArray[np.uint8], predicted: NDArray[np.uint8], names: tuple[str, ...]
) -> list[Confusion]:
    named = [*names, *[None] * (NO_TASK + 1 - len(names))]
    triples = zip(tags, wanted.tolist(), predicted.tolist(), strict=True)
    counts = Counter(triple for triple in triples if triple[1] != triple[2])
    return [
        Confusion(tag, named[gold], named[other], words) for (tag, gold, other), words in counts.most_common()
    ]


def _sentences(gold: Path) -> Iterator[Doc]:
    """Sentences as spaCy reads them, each into a Doc with its gold tags."""
    vocab = Vocab()
    for number, lines in _blocks(gold):
        try:
            yield conllu_sentence_to_doc(vocab, lines, ner_tag_pattern="")
        except (ValueError, KeyError, IndexError) as error:
            reason = one_line(error)
            raise UserError(
                f"{gold}, line {number}: a sentence that is not CoNLL-U ({reason}); mend it"
            ) from error


def _blocks(gold: Path) -> Iterator[tuple[int, list[str]]]:
    """The word lines of each sentence, with the number of the first."""
    try:
        text = gold.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{gold}: {error.strerror}; give a CoNLL-U file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{gold}: not UTF-8 (byte {error.start}); give a CoNLL-U file") from error
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.rstrip("\r")
        if not line.strip():
            if block:
                yield number - len(block), block
            block = []
        elif not line.startswith("#"):
            columns = line.split("\t")
            if len(columns) != _NUM_COLUMNS or not all(columns):
                raise UserError(
                    f"{gold}, line {number}: not CoNLL-U; a word takes {_NUM_COLUMNS} columns between tabs, "
                    f"none empty (this line has {len(columns)})"
                )
            block.append(line)

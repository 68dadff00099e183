"""A few stored sequences made readable: words with their tasks, and which of them training might mask."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np

from data_prep.schema import IS_NEXT, IS_RANDOM, NO_TASK, NO_WORD, Manifest, Shard, Split
from data_prep.sequences.tokenizer import SPECIALS, special_id
from data_prep.shards.masking import Random, draw_masked
from data_prep.shards.reading import SequenceRow, SequenceTable, read_tokenizer

_MASKING_RATE = 0.15
_NEXT_SENTENCE = {IS_NEXT: "second segment follows the first", IS_RANDOM: "second segment is random"}
_CLOSING, _OPENING = tuple(".,;:!?)]}%"), tuple("([{")


@dataclass(frozen=True)
class Stretch:
    """A word, or a piece of none: what is shown as one."""

    text: str
    task: int | None
    is_masked: bool
    is_special: bool
    has_space: bool
    """Whether a space stands before it; where the text had one is not stored, so punctuation is a guess."""


@dataclass(frozen=True)
class Segment:
    """What lies before a [SEP]: one side of a pair, or a part of a packed sequence."""

    documents: str
    """Its document, or those of the sequence where it is not known which is whose."""
    stretches: list[Stretch]


@dataclass(frozen=True)
class Sample:
    """A stored sequence, and the task for which its words are masked."""

    shard: str
    row: int
    task: int
    num_pieces: int
    next_sentence: str
    """What its label says, or that it has none."""
    segments: list[Segment]


@dataclass(frozen=True)
class _Place:
    shard: Shard
    number: int
    row: SequenceRow


class Sampler:
    """Draws sequences from a split of a folder of shards: the same ones for the same seed.

    Raises:
        UserError: the tokenizer is not the one that the manifest describes.
    """

    def __init__(self, folder: Path, manifest: Manifest, split: Split, seed: int) -> None:
        self._manifest = manifest
        self._split = split
        self._seed = seed
        self._tokenizer = read_tokenizer(folder, manifest)
        self._sep = special_id(self._tokenizer, "[SEP]")
        self._specials = {self._tokenizer.token_to_id(special) for special in SPECIALS}
        self._table = cache(lambda number: SequenceTable(folder, manifest, [manifest.shards[number]]))

    def draw(self, num_samples: int, task: int | None = None) -> list[Sample]:
        """At most `num_samples` different sequences, for one task or for all in turn.

        Raises:
            UserError: a shard cannot be read.
        """
        random = np.random.default_rng(self._seed)
        tasks = random.permutation(len(self._manifest.task_names)).tolist() if task is None else [task]
        if self._split == "train":
            found = self._train_places(tasks, random)
        else:
            found = self._held_out_places(task, random)
        return [self._sample(place, chosen, random) for place, chosen in islice(found, num_samples)]

    def _train_places(self, tasks: list[int], random: Random) -> Iterator[tuple[_Place, int]]:
        names = self._manifest.task_names
        groups = [self._places(names[task], random.spawn(1)[0]) for task in tasks]
        for places in zip_longest(*groups):
            yield from ((place, task) for place, task in zip(places, tasks, strict=True) if place)

    def _held_out_places(self, task: int | None, random: Random) -> Iterator[tuple[_Place, int]]:
        for place in self._places(None, random.spawn(1)[0]):
            present = np.unique(place.row.task_ids[place.row.task_ids != NO_TASK])
            if task is None and len(present):
                yield place, int(random.choice(present))
            elif task is not None and task in present:
                yield place, task

    def _places(self, group: str | None, random: Random) -> Iterator[_Place]:
        """All rows of a task group, or of a held-out split, in random order."""
        shards = self._manifest.shards
        numbers = [i for i, shard in enumerate(shards) if (shard.split, shard.task) == (self._split, group)]
        ends = np.cumsum([shards[number].rows for number in numbers])
        for index in random.permutation(int(ends[-1]) if numbers else 0).tolist():
            place = int(np.searchsorted(ends, index, side="right"))
            shard = shards[numbers[place]]
            row = index - int(ends[place]) + shard.rows
            yield _Place(shard, row, self._table(numbers[place])[row])

    def _sample(self, place: _Place, task: int, random: Random) -> Sample:
        row = place.row
        masked = draw_masked(row.word_ids, row.task_ids == task, _MASKING_RATE, random)
        is_masked = np.isin(np.arange(len(row)), masked)
        segments = np.split(np.arange(len(row)), np.flatnonzero(row.input_ids == self._sep) + 1)
        segments = [positions for positions in segments if len(positions)]
        names = row.doc_id if len(segments) == len(row.doc_id) else [", ".join(row.doc_id)] * len(segments)
        return Sample(
            shard=place.shard.path,
            row=place.number,
            task=task,
            num_pieces=len(row),
            next_sentence=_NEXT_SENTENCE.get(row.next_sentence_label, "no next-sentence label"),
            segments=[
                Segment(printable(name), self._stretches(row, positions, is_masked))
                for name, positions in zip(names, segments, strict=True)
            ],
        )

    def _stretches(self, row: SequenceRow, positions: np.ndarray, is_masked: np.ndarray) -> list[Stretch]:
        stretches: list[Stretch] = []
        for word in _words(row.word_ids[positions], positions):
            ids = [int(row.input_ids[position]) for position in word]
            pieces = [self._tokenizer.id_to_token(number) or f"<{number}>" for number in ids]
            text = printable("".join(piece.removeprefix("##") for piece in pieces))
            task = int(row.task_ids[word[0]])
            glued = pieces[0].startswith("##") or text.startswith(_CLOSING)
            is_special = ids[0] in self._specials
            after_opening = bool(stretches) and stretches[-1].text in _OPENING and not is_special
            stretches.append(
                Stretch(
                    text=text,
                    task=None if task == NO_TASK else task,
                    is_masked=bool(is_masked[word[0]]),
                    is_special=is_special,
                    has_space=bool(stretches) and not (glued or after_opening),
                )
            )
        return stretches


def printable(text: str) -> str:
    """Text that cannot steer a terminal or turn a page around: control characters become U+FFFD."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _words(word_ids: np.ndarray, positions: np.ndarray) -> Iterator[list[int]]:
    """The positions of each word; pieces of no word stand alone."""
    starts = np.flatnonzero((np.diff(word_ids.astype(np.int64), prepend=-1) != 0) | (word_ids == NO_WORD))
    for part in np.split(positions, starts[1:]):
        yield part.tolist()

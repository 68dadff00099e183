"""What planning knows of the documents: a few numbers each, in memory, and their signatures on disk."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.passes.reading import CHANGES, read_facts, read_left_out
from data_prep.passes.signatures import SIGNATURE_BYTES, near_duplicates

_FACTS = ("id_hash", "characters", "words", "continues", "text_hash", *CHANGES)


class Survey:
    """N documents that cleaning kept, in the order of the corpus: about 60 bytes each.

    `chunk`, `row` say where each is; `names` is the hash of its name, `numbers` tells apart those of equal
    name (1 for the first); `origins` is the first part of the document that it was cut from, or itself.
    """

    def __init__(self, chunks: list[Path], signatures: BinaryIO) -> None:
        """Read the chunks; `signatures` is an empty file to be written, which `near_duplicates` reads."""
        self.chunks = chunks
        self.left_out: Counter[str] = Counter()
        columns: dict[str, list[NDArray]] = {name: [] for name in ("chunk", "row", *_FACTS)}
        self._signatures = signatures
        for number, path in enumerate(chunks):
            facts = read_facts(path)
            dropped = facts["dropped"].to_pylist()
            self.left_out.update(kind for kind in dropped if kind is not None)
            kept = np.array([kind is None for kind in dropped], bool)
            for name in _FACTS:
                columns[name].append(_column(facts, name))
            columns["row"].append(np.flatnonzero(kept).astype(np.uint32))
            columns["chunk"].append(np.full(kept.sum(), number, np.uint32))
            signatures.writelines(facts["signature"].drop_null().to_pylist())
        signatures.flush()
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        self.chunk, self.row = joined["chunk"], joined["row"]
        self.characters, self.words = joined["characters"], joined["words"]
        self.names = joined["id_hash"]
        self.numbers = _occurrences(self.names)
        self.origins = np.maximum.accumulate(np.where(joined["continues"], 0, np.arange(len(self.row))))
        self.changes = {name: joined[name] for name in CHANGES}
        self._texts = joined["text_hash"]

    def __len__(self) -> int:
        return len(self.row)

    def same_text(self) -> NDArray[np.int64]:
        """[N] the first document of the same text."""
        _, first, inverse = np.unique(self._texts, return_index=True, return_inverse=True)
        return first[inverse]

    def near_duplicates(self) -> NDArray[np.int64]:
        """[N] the first document of the cluster of near-duplicates."""
        width = SIGNATURE_BYTES // 4
        return near_duplicates(np.memmap(self._signatures, "<u4", "r", shape=(len(self), width)))

    def names_of(self, documents: Iterable[int]) -> dict[int, str]:
        """The names of some documents."""
        wanted = np.unique(np.fromiter(documents, np.int64))
        found: dict[int, str] = {}
        for number, span in runs(self.chunk[wanted]):
            names = read_left_out(self.chunks[number])["doc_id"]
            for index in wanted[span].tolist():
                found[index] = numbered(names[int(self.row[index])].as_py(), int(self.numbers[index]))
        return found

    def left_out_rows(self) -> Iterator[tuple[int, int, str, str, str]]:
        """Chunk, row, name, kind and reason of what cleaning left out."""
        for number, path in enumerate(self.chunks):
            columns = [column.to_pylist() for column in read_left_out(path).columns]
            for row, (name, kind, reason) in enumerate(zip(*columns, strict=True)):
                if kind is not None:
                    yield number, row, name, kind, reason


def runs(numbers: NDArray[np.integer]) -> Iterator[tuple[int, slice]]:
    """Each number among `numbers` [N], which ascend, and where it stands."""
    distinct, firsts = np.unique(numbers, return_index=True)
    for number, first, last in zip(distinct, firsts, np.append(firsts, len(numbers))[1:], strict=True):
        yield int(number), slice(int(first), int(last))


def numbered(name: str, number: int) -> str:
    """A name that occurs again gets a number, so that names tell documents apart."""
    return name if number == 1 else f"{name}~{number}"


def _column(facts: pa.Table, name: str) -> NDArray:
    """A column of the documents that were kept; the others have no value in it."""
    values = facts[name].drop_null().combine_chunks()
    if name == "text_hash":
        return np.frombuffer(b"".join(values.to_pylist()), "V16")
    return values.to_numpy(zero_copy_only=False)


def _occurrences(names: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """[N] how often each name has occurred up to its place."""
    order = np.argsort(names, kind="stable")
    ordered = names[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    place = np.arange(len(names)) - np.repeat(starts, np.diff(np.append(starts, len(names))))
    numbers = np.empty(len(names), np.uint32)
    numbers[order] = place + 1
    return numbers

"""The last pass: every sequence goes to the shard of its task group or split, and the manifest is written."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from typing_extensions import override

from data_prep.durable import complete_file, sha256_file
from data_prep.errors import CorpusError
from data_prep.passes.blocks import BlocksPass, read_block_details, read_sequences, read_task_words
from data_prep.passes.groups import patterns, quotas, tasks_of
from data_prep.passes.job import Job
from data_prep.passes.planning import PlanningPass
from data_prep.passes.splits import SPLITS
from data_prep.passes.work import Pass, Report, Worker
from data_prep.schema import Record, Shard, Split, arrow_schema
from data_prep.sequences.tokenizer import highest_id, load_tokenizer
from data_prep.shards.writing import ROWS_PER_BATCH

_LAYOUT = "layout.json"


class ShardLayout(Record):
    """A shard to be written: rows `first` to `last` of a task group or split."""

    split: Split
    group: int
    """Number of the task; -1 for held-out splits, which are not divided."""
    number: int
    first: int
    last: int


class Layout(Record):
    """What goes where."""

    block_rows: dict[str, list[int]]
    """Rows of each block in a task group (its number) or held-out split (its name)."""
    shards: list[ShardLayout]
    without_task: int
    """Training sequences that hold no word of any task."""


@dataclass(frozen=True)
class LayoutPass(Pass):
    """One task, number 0: decides the task group of every training sequence."""

    job: Job
    planning: PlanningPass
    blocks: BlocksPass
    name: ClassVar[str] = "assigning"

    @property
    @override
    def folder(self) -> Path:
        return self.job.work / "layout"

    @override
    def is_done(self, task: int) -> bool:
        return (self.folder / _LAYOUT).is_file()

    def layout(self) -> Layout:
        """The layout, once it is done."""
        return Layout.model_validate_json((self.folder / _LAYOUT).read_bytes())

    def groups(self, block: int) -> NDArray[np.int16]:
        """[N] the task group of each sequence of a training block, -1 for none."""
        return np.load(self._groups_path(block), allow_pickle=False)

    @override
    def worker(self) -> Worker:
        return self._decide

    def _decide(self, task: int, report: Report) -> None:
        plan = self.planning.plan()
        num_tasks = len(self.job.task_names)
        counts: Counter[str] = Counter()
        for number, block in enumerate(plan.blocks):
            if block.split == "train":
                counts.update(self._patterns(number))
        quota = quotas({bytes.fromhex(name): count for name, count in counts.items()}, num_tasks)
        seen: Counter[bytes] = Counter()
        block_rows: dict[str, list[int]] = {}
        for number, block in enumerate(plan.blocks):
            if block.split == "train":
                groups = self._assign(number, quota, seen)
                sizes = np.bincount(groups[groups >= 0], minlength=num_tasks)
                rows = {str(task): int(sizes[task]) for task in range(num_tasks)}
            else:
                rows = {block.split: sum(self._patterns(number).values())}
            for name in [*map(str, range(num_tasks)), *SPLITS[1:]]:
                block_rows.setdefault(name, []).append(rows.get(name, 0))
        layout = Layout(
            block_rows=block_rows,
            shards=list(_shards(block_rows, num_tasks, self.job.shard_rows)),
            without_task=sum(counts.values()) - int(sum(quota.values(), np.zeros(num_tasks)).sum()),
        )
        _refuse_empty(self.job, layout)
        with complete_file(self.folder / _LAYOUT, self.job.staging) as partial:
            partial.write_text(layout.model_dump_json() + "\n", encoding="utf-8")

    def _patterns(self, block: int) -> dict[str, int]:
        return read_block_details(self.blocks.path(block)).patterns

    def _assign(
        self, block: int, quota: dict[bytes, NDArray[np.int64]], seen: Counter[bytes]
    ) -> NDArray[np.int16]:
        names = patterns(read_task_words(self.blocks.path(block), len(self.job.task_names)))
        distinct = sorted(set(names))
        number = {name: index for index, name in enumerate(distinct)}
        pattern = np.array([number[name] for name in names], np.int64)
        groups = np.empty(len(names), np.int16)
        for index, name in enumerate(distinct):
            rows = np.flatnonzero(pattern == index)
            places = np.arange(seen[name], seen[name] + len(rows))
            groups[rows] = tasks_of(quota[name], places, self.job.settings.seed)
            seen[name] += len(rows)
        with complete_file(self._groups_path(block), self.job.staging) as partial, partial.open("wb") as file:
            np.save(file, groups)
        return groups

    def _groups_path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.npy"


@dataclass(frozen=True)
class MergingPass(Pass):
    """Task number i writes shard number i of the layout."""

    job: Job
    blocks: BlocksPass
    layouts: LayoutPass
    name: ClassVar[str] = "merging"

    @property
    @override
    def folder(self) -> Path:
        return self.job.work / "entries"

    def entry_path(self, task: int) -> Path:
        """The manifest's entry of a shard."""
        return self.folder / f"{task:06d}.json"

    @override
    def is_done(self, task: int) -> bool:
        return self.entry_path(task).is_file()

    @override
    def worker(self) -> Worker:
        layout = self.layouts.layout()
        tokenizer = load_tokenizer(self.blocks.planning.tokenizer_path)
        schema = arrow_schema(highest_id(tokenizer) + 1)

        def merge(task: int, report: Report) -> None:
            shard = layout.shards[task]
            task_name = self.job.task_names[shard.group] if shard.group >= 0 else None
            folder = Path(shard.split) / task_name if task_name else Path(shard.split)
            path = folder / f"shard-{shard.number:05d}.arrow"
            with complete_file(self.job.out / path, self.job.staging) as partial:
                tokens, words = self._write(partial, layout, shard, schema)
            entry = Shard(
                path=path.as_posix(),
                split=shard.split,
                task=task_name,
                rows=shard.last - shard.first,
                tokens=tokens,
                task_words=dict(zip(self.job.task_names, words.tolist(), strict=True)),
                sha256=sha256_file(self.job.out / path),
            )
            with complete_file(self.entry_path(task), self.job.staging) as partial:
                partial.write_text(entry.model_dump_json() + "\n", encoding="utf-8")
            report({"sequences": entry.rows})

        return merge

    def _write(
        self, path: Path, layout: Layout, shard: ShardLayout, schema: pa.Schema
    ) -> tuple[int, NDArray[np.int64]]:
        """Write the rows; return their tokens and [T] words of each task."""
        tokens, words = 0, np.zeros(len(self.job.task_names), np.int64)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            waiting: list[pa.Table] = []
            for table, task_words in self._parts(layout, shard):
                tokens += sum(len(part.flatten()) for part in table["input_ids"].chunks)
                words += task_words.sum(axis=0, dtype=np.int64)
                waiting.append(table)
                waiting = _write_whole_batches(stream, waiting)
            if waiting:
                _write_table(stream, pa.concat_tables(waiting))
        return tokens, words

    def _parts(self, layout: Layout, shard: ShardLayout) -> Iterator[tuple[pa.Table, NDArray[np.uint16]]]:
        """The shard's sequences block by block, and the words of each task in them."""
        counts = np.array(layout.block_rows[str(shard.group) if shard.group >= 0 else shard.split])
        ends = np.cumsum(counts)
        for block in np.flatnonzero((ends > shard.first) & (ends - counts < shard.last)).tolist():
            before = int(ends[block] - counts[block])
            rows = np.arange(counts[block])
            if shard.group >= 0:
                rows = np.flatnonzero(self.layouts.groups(block) == shard.group)
            rows = rows[max(shard.first - before, 0) : shard.last - before]
            path = self.blocks.path(block)
            table = read_sequences(path).take(pa.array(rows))
            yield table, read_task_words(path, len(self.job.task_names))[rows]


def _write_whole_batches(stream: pa.RecordBatchStreamWriter, waiting: list[pa.Table]) -> list[pa.Table]:
    """Write all that fills record batches; return the rest."""
    table = pa.concat_tables(waiting)
    whole = len(table) // ROWS_PER_BATCH * ROWS_PER_BATCH
    _write_table(stream, table.slice(0, whole))
    return [table.slice(whole)] if len(table) > whole else []


def _write_table(stream: pa.RecordBatchStreamWriter, table: pa.Table) -> None:
    """Record batches of fixed sizes, whatever the table was made from."""
    for first in range(0, len(table), ROWS_PER_BATCH):
        part = table.slice(first, ROWS_PER_BATCH).combine_chunks()
        stream.write_batch(part.to_batches()[0])


def _shards(block_rows: dict[str, list[int]], num_tasks: int, shard_rows: int) -> Iterator[ShardLayout]:
    folders: list[tuple[Split, int, str]] = [("train", task, str(task)) for task in range(num_tasks)]
    folders += [(split, -1, split) for split in SPLITS[1:]]
    for split, group, name in folders:
        total = sum(block_rows[name])
        for number, first in enumerate(range(0, total, shard_rows)):
            last = min(first + shard_rows, total)
            yield ShardLayout(split=split, group=group, number=number, first=first, last=last)


def _refuse_empty(job: Job, layout: Layout) -> None:
    found = {shard.split for shard in layout.shards}
    if "train" not in found:
        raise CorpusError(
            f"{job.out}: the corpus has no word of any task; give text in the language of the tagger, or "
            "another --tagger or --tag-map"
        )
    for split in SPLITS[1:]:
        if split not in found:
            raise CorpusError(
                f"{job.out}: the {split} split of the corpus gives no sequence; give more text, or another "
                "--seed"
            )

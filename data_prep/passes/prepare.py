"""The offline stage from end to end, or a part of it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree

import pyarrow.compute as pc

from data_prep.corpus.cleaning import Cleaner
from data_prep.corpus.inputs import Source, find_sources
from data_prep.durable import complete_file, sha256_file, write_durably
from data_prep.errors import CorpusError, UserError
from data_prep.passes.blocks import BlocksPass
from data_prep.passes.job import Fingerprint, Job, Settings, library_versions, load_job, open_job
from data_prep.passes.merging import LayoutPass, MergingPass
from data_prep.passes.planning import Plan, PlanningPass
from data_prep.passes.reading import ReadingPass, read_details, read_left_out
from data_prep.passes.sections import MIN_DOCUMENTS, section_words
from data_prep.passes.work import Pass, do_tasks
from data_prep.progress import Monitor
from data_prep.schema import (
    MANIFEST,
    SCHEMA_VERSION,
    TOKENIZER,
    WORK,
    File,
    Manifest,
    Shard,
    manifest_files,
    read_manifest,
)
from data_prep.sequences.tokenizer import highest_id, load_tokenizer, tokenizer_component
from data_prep.tagging.tag_map import load_tag_map
from data_prep.tagging.tagger import Tagger

_NUM_PARTS = "num-parts"
_FEW_SEQUENCES = 500_000
"""They are merged before another process has started."""


@dataclass(frozen=True)
class Share:
    """Part number `part`, from 0, of `num_parts` that share a job."""

    part: int = 0
    num_parts: int = 1


@dataclass(frozen=True)
class Begun:
    """A job, and files among the inputs that it does not read, each with the reason."""

    job: Job
    skipped: list[str]


def begin(inputs: Sequence[str], out: Path, settings: Settings, tag_map: Path | None) -> Begun:
    """Begin to prepare `inputs` in `out`, or go on; what the user gave is checked before anything is written.

    Raises:
        UserError: something that the user gave cannot be used, or `out` holds something else.
    """
    found = find_sources(inputs)
    sources = _without_own(found.sources, out)
    tags = load_tag_map(tag_map)
    given = load_tokenizer(Path(settings.tokenizer)) if settings.tokenizer else None
    Cleaner(settings.cleaning)
    fingerprint = Fingerprint(
        settings=settings,
        sources=tuple(sources),
        tag_map=tags,
        tagger=Tagger(settings.tagger, tags, settings.device).component,
        given_tokenizer=tokenizer_component(given).sha256 if given else None,
        versions=library_versions(),
    )
    return Begun(open_job(out, fingerprint), found.skipped)


def _without_own(sources: Sequence[Source], out: Path) -> list[Source]:
    """Sources but the files of this very preparation, which may lie in an input folder when it goes on."""
    own = Path(os.path.abspath(out))  # noqa: PTH100 - as sources name their files
    logs = re.compile(re.escape(str(own)) + r"(\.part-\d+-of-\d+|\.merge)?\.log\.jsonl")

    def is_own(path: Path) -> bool:
        return path.is_relative_to(own) or logs.fullmatch(str(path)) is not None

    foreign = [source for source in sources if source.format == "hub" or not is_own(source.file)]
    if not foreign:
        raise UserError(f"{out}: --out holds all the input; give another folder")
    return foreign


@dataclass(frozen=True)
class Preparation:
    """A job, and what works on it here."""

    job: Job
    monitor: Monitor
    num_workers: int = 1

    def prepare(self, share: Share = Share()) -> None:
        """Prepare a share of the blocks; what is global is done by whoever comes first."""
        if self.job.is_complete:
            return
        with _tidy(self.job):
            write_durably(self.job.work / _NUM_PARTS, str(share.num_parts))
            planning = self._plan(share)
            plan = planning.plan()
            blocks = BlocksPass(self.job, planning)
            own = [task for task in range(len(plan.blocks)) if task % share.num_parts == share.part]
            words = sum(plan.blocks[task].words for task in own if not blocks.is_done(task))
            self._run(blocks, own, unit="words", total=words)

    def merge(self) -> Manifest:
        """Write the shards, when all blocks are there; the work folder is removed.

        Raises:
            UserError: some blocks are not there yet.
        """
        if not self.job.is_complete:
            with _tidy(self.job):
                self._merge()
        rmtree(self.job.work, ignore_errors=True)
        return read_manifest(self.job.out)

    def _plan(self, share: Share) -> PlanningPass:
        reading = ReadingPass(self.job)
        self._read(reading, share)
        details = [read_details(path) for path in reading.all_chunks()]
        if sum(item.documents for item in details) < MIN_DOCUMENTS:
            words = sum(item.words for item in details)
            if not words:
                raise CorpusError(_no_text(self.job, reading))
            reading = ReadingPass(self.job, section_words(words))
            self._read(reading, share)
        planning = PlanningPass(self.job, reading)
        self._run(planning, [0])
        return planning

    def _read(self, reading: ReadingPass, share: Share) -> None:
        """Own sources first; then those that nobody else reads."""
        first = len(reading.tasks) * share.part // share.num_parts
        self._run(reading, [*reading.tasks[first:], *reading.tasks[:first]], unit="words")

    def _merge(self) -> None:
        job = self.job
        planning = PlanningPass(job, ReadingPass(job))
        if not planning.is_done(0):
            raise UserError(f"{job.out}: not planned yet; run its parts first: data_prep text ... --part I")
        plan = planning.plan()
        blocks = BlocksPass(job, planning)
        missing = _missing_blocks(plan, blocks)
        if missing:
            num_parts = int((job.work / _NUM_PARTS).read_text())
            parts = sorted({task % num_parts for task in missing})
            raise UserError(
                f"{job.out}: {len(missing):,} of {len(plan.blocks):,} blocks are not prepared yet, by part "
                f"{', '.join(map(str, parts))} of {num_parts}; run data_prep text ... --part {parts[0]} "
                f"--num-parts {num_parts} as before"
            )
        layouts = LayoutPass(job, planning, blocks)
        self._run(layouts, [0])
        layout = layouts.layout()
        merging = MergingPass(job, blocks, layouts)
        tasks = range(len(layout.shards))
        left = [layout.shards[task] for task in tasks if not merging.is_done(task)]
        rows = sum(shard.last - shard.first for shard in left)
        self._run(merging, tasks, "sequences", rows, num_workers=1 if rows < _FEW_SEQUENCES else None)
        entries = [Shard.model_validate_json(merging.entry_path(task).read_bytes()) for task in tasks]
        self._finish(planning, plan, entries, layout.without_task)

    def _finish(self, planning: PlanningPass, plan: Plan, shards: list[Shard], without_task: int) -> None:
        """Tokenizer, list of dropped documents and, last of all, the manifest."""
        job = self.job
        files = [self._publish(path) for path in (planning.dropped_path, planning.tokenizer_path)]
        tokenizer = load_tokenizer(job.out / TOKENIZER)
        fingerprint = job.fingerprint
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            task_names=list(job.task_names),
            tag_map={task: list(tags) for task, tags in fingerprint.tag_map.tasks.items()},
            settings=job.settings.model_dump(mode="json"),
            sequence_length=job.settings.sequence_length,
            next_sentence=job.settings.next_sentence,
            vocab_size=highest_id(tokenizer) + 1,
            seed=job.settings.seed,
            tagger=fingerprint.tagger,
            tokenizer=tokenizer_component(tokenizer),
            sources=plan.sources,
            section_words=plan.section_words,
            documents=plan.documents,
            words=plan.words,
            dropped=plan.dropped,
            cleaned=plan.cleaned,
            without_task=without_task,
            files=files,
            shards=shards,
        )
        for name, content in manifest_files(manifest).items():
            with complete_file(job.out / name, job.staging) as partial:
                partial.write_bytes(content)

    def _publish(self, path: Path) -> File:
        target = self.job.out / path.name
        with complete_file(target, self.job.staging) as partial:
            copyfile(path, partial)
        return File(path=path.name, bytes=target.stat().st_size, sha256=sha256_file(target))

    def _run(
        self,
        work: Pass,
        tasks: Sequence[int],
        unit: str = "",
        total: int | None = None,
        num_workers: int | None = None,
    ) -> None:
        with self.monitor.stage(work.name, unit, total) as report:
            do_tasks(work, tasks, num_workers or self.num_workers, report)


def merge_parts(out: Path, monitor: Monitor, num_workers: int) -> Manifest:
    """Merge what was prepared in parts, or tidy up after a merge that was killed at its very end."""
    if (out / MANIFEST).is_file():
        rmtree(out / WORK, ignore_errors=True)
        return read_manifest(out)
    return Preparation(load_job(out), monitor, num_workers).merge()


def missing_parts(out: Path, num_parts: int) -> list[int]:
    """Which of the parts of a preparation in `out` still have something to do; all of one not begun."""
    if (out / MANIFEST).is_file():
        return []
    if not (out / WORK).is_dir():
        return list(range(num_parts))
    job = load_job(out)
    planning = PlanningPass(job, ReadingPass(job))
    if not planning.is_done(0):
        return list(range(num_parts))
    missing = _missing_blocks(planning.plan(), BlocksPass(job, planning))
    return sorted({task % num_parts for task in missing})


def _missing_blocks(plan: Plan, blocks: BlocksPass) -> list[int]:
    return [task for task in range(len(plan.blocks)) if not blocks.is_done(task)]


@contextmanager
def _tidy(job: Job) -> Iterator[None]:
    """Keep nothing of a hopeless job; and another process may finish this one, and tidy up under our feet."""
    try:
        yield
    except CorpusError:
        rmtree(job.work, ignore_errors=True)
        if not any(job.out.iterdir()):
            job.out.rmdir()
        raise
    except FileNotFoundError:
        if not job.is_complete:
            raise


def _no_text(job: Job, reading: ReadingPass) -> str:
    """Why nothing is left: the names of the sources, and what became of their documents."""
    names = ", ".join(source.name for source in job.fingerprint.sources[:3])
    for path in reading.all_chunks():
        left_out = read_left_out(path).filter(pc.is_valid(pc.field("dropped")))
        if len(left_out):
            first = left_out.slice(0, 1).to_pylist()[0]
            why = f"{first['doc_id']} was left out: {first['reason']}"
            return f"{names}: no text in the corpus; for example, {why}"
    return f"{names}: no text in the corpus; give files that hold some"

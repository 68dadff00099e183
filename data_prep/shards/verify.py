"""Whether a folder of shards is what its manifest says, to the last byte."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.errors import UserError
from data_prep.progress import progress
from data_prep.schema import MANIFEST, MANIFEST_HASH, TOKENIZER, WORK, Manifest, read_manifest
from data_prep.shards.contents import Contents

_MOST_TASKS = 254


@dataclass(frozen=True)
class Problem:
    """A file of a folder of shards, and what is wrong with it."""

    path: str
    """Relative to the folder."""
    message: str

    def __str__(self) -> str:
        line = " ".join(f"{self.path}: {self.message}".splitlines())
        return line.encode(errors="backslashreplace").decode()  # names of files need not be UTF-8


def report_problems(folder: Path) -> int:
    """Verify a folder and print a line per problem, or one line that all is well; return the exit code.

    Raises:
        UserError: it is no folder of shards.
    """
    start = time.perf_counter()
    problems = verify_folder(folder)
    seconds = time.perf_counter() - start
    for problem in problems:
        print(problem)
    if problems:
        print(
            f"{folder}: {len(problems):,} problem{'s' * (len(problems) > 1)}; copy the files named above "
            "again from where they were made, or prepare the shards again"
        )
        return 1
    manifest = read_manifest(folder)
    names = [*_listed(manifest), MANIFEST, MANIFEST_HASH]
    num_bytes = sum((folder / name).stat().st_size for name in names)
    print(
        f"{folder}: all is well: {len(names):,} files, {sum(s.rows for s in manifest.shards):,} rows, "
        f"{sum(s.tokens for s in manifest.shards):,} tokens, {num_bytes / 1e6:,.1f} MB in {seconds:.1f} s"
    )
    return 0


def verify_folder(folder: Path) -> list[Problem]:
    """Everything that is wrong with a folder of shards: hashes, names, format, counts, splits.

    A file whose hash is wrong is not opened, since altered bytes may make a reader do anything.

    Raises:
        UserError: it is no folder of shards.
    """
    _refuse_foreign(folder)
    if not (folder / MANIFEST).is_file() and (unfinished := _unfinished(folder)):
        return unfinished
    problems = [*_manifest_problems(folder)]
    if problems:  # what it says of the other files cannot be trusted
        return [*problems, *_unfinished(folder)]
    manifest = read_manifest(folder)
    problems = [*_contradictions(manifest)]
    if problems:
        return problems
    return [*_unlisted(folder, manifest), *_unfinished(folder), *_content_problems(folder, manifest)]


def _refuse_foreign(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name one that data_prep text wrote")
    begun = any((folder / name).exists() for name in (MANIFEST, MANIFEST_HASH))
    if not begun and not _unfinished(folder):
        raise UserError(
            f"{folder}: no folder of shards, it has no {MANIFEST}; name one that data_prep text wrote"
        )


def _manifest_problems(folder: Path) -> Iterator[Problem]:
    missing = [name for name in (MANIFEST, MANIFEST_HASH) if not (folder / name).is_file()]
    if missing:
        yield from (Problem(name, "missing") for name in missing)
        return
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    if (folder / MANIFEST_HASH).read_bytes() != f"{digest}  {MANIFEST}\n".encode():
        yield Problem(
            MANIFEST, f"does not match {MANIFEST_HASH}: one of the two was altered; the rest was not checked"
        )
        return
    try:
        read_manifest(folder)
    except UserError as error:
        yield Problem(MANIFEST, str(error).removeprefix(f"{folder / MANIFEST}: "))


def _contradictions(manifest: Manifest) -> Iterator[Problem]:
    """What a manifest cannot say together."""
    names = manifest.task_names
    if not 1 <= len(set(names)) == len(names) <= _MOST_TASKS:
        yield Problem(MANIFEST, f"task_names must be 1 to {_MOST_TASKS} different names")
    listed = _listed(manifest)
    for path in (path for path, count in Counter(listed).items() if count > 1):
        yield Problem(MANIFEST, f"lists {path} twice")
    for path in listed:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            yield Problem(MANIFEST, f"lists {path}, which lies outside the folder")
    for shard in manifest.shards:
        if shard.task not in (names if shard.split == "train" else [None]):
            yield Problem(MANIFEST, f"{shard.path}: {shard.split} shard of the task {shard.task}")
        if set(shard.task_words) != set(names):
            yield Problem(MANIFEST, f"{shard.path}: task_words does not count each task")
    tokenizer = [file.sha256 for file in manifest.files if file.path == TOKENIZER]
    if tokenizer != [manifest.tokenizer.sha256]:
        yield Problem(MANIFEST, f"files does not list {TOKENIZER} with the sha256 that tokenizer has")


def _listed(manifest: Manifest) -> list[str]:
    return [*(file.path for file in manifest.files), *(shard.path for shard in manifest.shards)]


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    known = {*_listed(manifest), MANIFEST, MANIFEST_HASH}
    for name in _files_below(folder):
        if name not in known:
            yield Problem(name, f"not listed in {MANIFEST}: a stray or renamed file")


def _files_below(folder: Path) -> Iterator[str]:
    """Names, relative to the folder, of all files but those of an unfinished preparation."""
    for place, folders, files in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [name for name in folders if name != WORK]
        yield from ((Path(place) / name).relative_to(folder).as_posix() for name in sorted(files))
        folders.sort()


def _unfinished(folder: Path) -> list[Problem]:
    message = "the work of an unfinished preparation; run the same command again to finish it"
    return [Problem(WORK, message)] if (folder / WORK).is_dir() else []


def _content_problems(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    contents = Contents(folder, manifest)
    for name in progress(contents.names, desc="verifying", unit=" files", leave=False):
        try:
            for message in contents.faults(name):
                yield Problem(name, message)
        except OSError as error:
            yield Problem(name, f"cannot be read ({error.strerror or error})")

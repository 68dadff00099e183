"""Files and folders that appear under their final name only when they are complete."""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.errors import UserError

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """Hex SHA-256 over the relative names and the contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + sha256_file(path).encode())
    return digest.hexdigest()


def fsync_path(path: Path) -> None:
    """Force a file, or the list of names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Force a folder and everything below it onto the disk."""
    for path in (folder, *folder.rglob("*")):
        fsync_path(path)


def write_durably(path: Path, content: str | bytes) -> None:
    """Write a small file so that readers see the old content or the new one, never a part.

    Several processes, on several machines too, may write it at once.
    """
    # Process numbers tell the processes of one machine apart, but not those of two.
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex}")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        fsync_path(partial)
        partial.replace(path)
        fsync_path(path.parent)
    except OSError as error:
        # A disk without room does not say for which file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def refuse_occupied(folder: Path, flag: str, besides: str | None = None) -> None:
    """Raise UserError where an output folder already holds something `besides` one name, or is a file."""
    if folder.is_file():
        raise UserError(f"{folder}: is a file; {flag} names a folder that does not exist yet")
    if folder.is_dir() and any(entry.name != besides for entry in folder.iterdir()):
        raise UserError(f"{folder}: already holds files; give {flag} another folder, or remove this one")


@contextmanager
def complete_file(path: Path, staging: Path) -> Iterator[Path]:
    """Yield a name in `staging`, on the same disk, for a file that takes the name `path` at the end.

    Several processes may write the same file at once; each has a name of its own, and the last one stays.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    partial = staging / f"{path.name}.{uuid.uuid4().hex}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        fsync_path(partial)
        partial.replace(path)
        fsync_path(path.parent)
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        raise UserError(
            f"{path}: cannot be written ({os.strerror(error.errno)}); make room or mend the folder, then run "
            "the same command again: finished files are kept"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def complete_folder(folder: Path, flag: str) -> Iterator[Path]:
    """Yield a hidden sibling of `folder` to write into; it takes the name `folder` when the block succeeds.

    On any failure the sibling is removed and `folder` stays as it was.
    """
    refuse_occupied(folder, flag)
    folder = folder.resolve()  # "." has no name, and a link's target may lie elsewhere
    made = [parent for parent in folder.parents if not parent.exists()]
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had the same number
    partial.mkdir(parents=True)
    try:
        yield partial
        fsync_folder(partial)
        partial.replace(folder)
        fsync_path(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not folder.exists():
            for parent in made:
                parent.rmdir()

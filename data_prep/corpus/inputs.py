"""What a user names (files, globs, folders, data sets of the hub) as an ordered list of sources."""

import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep import schema
from data_prep.corpus.compression import Compression, DamagedFileError, open_bytes
from data_prep.corpus.saved_dataset import is_saved_dataset, saved_files
from data_prep.durable import sha256_file, sha256_folder
from data_prep.errors import UserError
from data_prep.schema import MANIFEST, MANIFEST_HASH, WORK

Format = Literal["txt", "jsonl", "csv", "tsv", "parquet", "arrow", "hub"]

HUB = "hub:"
KINDS = ".txt, .jsonl, .csv, .tsv (plain, .gz, .zst, .xz or .bz2), .parquet or .arrow"
_FORMATS: dict[str, Format] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst", ".xz": "xz", ".bz2": "bz2"}
_DATASET_NOTES = {"dataset_info.json", "dataset_infos.json"}
_PROBE = 1 << 20


class Source(schema.Record):
    """A file, or a data set of the hub, to read documents from; small, and the same in every process."""

    name: str
    """As the user gave it, with / between folders; shown in messages and kept in manifests."""
    label: str
    """What documents without an id are named after: the path below the folder that the user named."""
    path: str
    """Absolute; of a hub data set its name, or the absolute path of its local folder."""
    size: int
    """Bytes; 0 for a hub data set."""
    format: Format
    compression: Compression | None = None
    config: str | None = None
    """Configuration of a hub data set."""
    revision: str | None = None
    """Commit of a hub data set."""

    @property
    def file(self) -> Path:
        """The path of a file."""
        return Path(self.path)


@dataclass(frozen=True)
class Inputs:
    """Sources in the order in which they are read, and files that were passed over, each with the reason."""

    sources: list[Source]
    skipped: list[str]


def find_sources(names: Sequence[str]) -> Inputs:
    """What files, globs, folders (with all below) and `hub:OWNER/NAME[:CONFIG][@REVISION]` stand for.

    Names keep their order; within a folder or glob, files come by the bytes of their path. A file that is
    named twice is taken at its first place. Hidden files, and files of unknown kind that were not named
    one by one, are skipped. The network is asked about `hub:` names alone.

    Raises:
        UserError: a name that stands for nothing, or for a file of unknown kind.
    """
    sources: dict[str, Source] = {}
    skipped: dict[str, None] = {}
    for name in names:
        found = list(_find(name))
        for item in found:
            if isinstance(item, Source):
                sources.setdefault(_identity(item), item)
            else:
                skipped[item] = None
        if not any(isinstance(item, Source) for item in found):
            raise UserError(f"{name}: no file that can be read; give {KINDS}")
    if not sources:
        raise UserError(f"no input; name files, folders or globs of {KINDS}")
    return Inputs(list(sources.values()), list(skipped))


def source_identity(source: Source) -> schema.Source:
    """What a manifest says of a source: its name, bytes and SHA-256.

    Of a data set of the hub, the hash is that of its name, configuration and commit, and bytes are 0; of a
    local folder of one, that of its files.
    """
    if source.format != "hub":
        sha256, size = sha256_file(source.file), source.file.stat().st_size
        if size != source.size:
            raise UserError(
                f"{source.name}: has {size:,} bytes now, it had {source.size:,} when its preparation began; "
                "remove the --out folder and begin anew, with files that nobody writes to"
            )
    elif source.file.is_dir():
        sha256 = sha256_folder(source.file)
        size = sum(path.stat().st_size for path in source.file.rglob("*") if path.is_file())
    else:
        identity = f"{source.path}:{source.config or ''}@{source.revision}"
        sha256, size = hashlib.sha256(identity.encode()).hexdigest(), 0
    return schema.Source(path=source.name, bytes=size, sha256=sha256)


def _identity(source: Source) -> str:
    if source.format == "hub":
        return f"{HUB}{source.path}:{source.config}@{source.revision}"
    return os.path.realpath(source.path)


def _find(name: str) -> Iterator[Source | str]:
    """Sources, and notes about what was skipped."""
    path = Path(name)
    if name.startswith(HUB):
        from data_prep.corpus.hub import find_hub_dataset  # imports `datasets`, which takes seconds

        yield find_hub_dataset(name)
    elif path.is_dir():
        yield from _folder(path)
    elif path.is_file():
        yield _named_file(path)
    elif glob.has_magic(name):
        matches = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not matches:
            raise UserError(f"{name}: matches no file; check the pattern")
        yield from _all_below(map(Path, matches), _fixed_part(name))
    else:
        raise UserError(f"{name}: no such file; check the path")


def _named_file(path: Path) -> Source:
    source = _source(path, path.name)
    if isinstance(source, str):
        raise UserError(source)
    return source


def _folder(folder: Path) -> Iterator[Source | str]:
    if is_shard_folder(folder):
        raise UserError(f"{folder}: holds shards, the output of data_prep; name the text that they come from")
    yield from _all_below([folder], folder)


def _all_below(paths: Iterable[Path], base: Path) -> Iterator[Source | str]:
    """The files among `paths` and in the folders among them, by the bytes of their paths."""
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_walk(path)))
        else:
            found[path] = None
    for path in sorted(found, key=os.fsencode):
        if path.is_dir() and is_shard_folder(path):
            yield f"{path.as_posix()}: shards, the output of data_prep"
        elif path.is_dir():
            for file in saved_files(path):
                yield file.note or _source(file.path, _label(file.path, base))
        elif path.name.startswith("."):
            yield f"{path.as_posix()}: hidden"
        elif path.name in _DATASET_NOTES:
            yield f"{path.as_posix()}: describes a data set"
        else:
            yield _source(path, _label(path, base))


def is_shard_folder(folder: Path) -> bool:
    """Whether a folder holds what data_prep wrote, or is still writing."""
    return all((folder / name).is_file() for name in (MANIFEST, MANIFEST_HASH)) or (folder / WORK).is_dir()


def _walk(folder: Path) -> Iterator[Path]:
    """The files below a folder, and in their place the folders that `datasets` saved; links are followed."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        here = Path(parent)
        if os.path.realpath(here) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(os.path.realpath(here))
        if is_shard_folder(here):
            folders.clear()
            yield here
            continue
        if is_saved_dataset(here):
            folders.clear()
            yield here
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (here / name for name in files)


def _refuse_unreadable(error: OSError) -> None:
    raise UserError(
        f"{error.filename}: cannot be read ({error.strerror}); mend its permissions or leave it out"
    )


def _source(path: Path, label: str) -> Source | str:
    """The source that a file is, or a note why it is none."""
    shown = path.as_posix()
    if os.fsencode(path).decode("utf-8", "replace") != str(path):
        return f"{shown.encode('utf-8', 'replace').decode()}: its name is not UTF-8; rename it"
    suffixes = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    compression = _COMPRESSIONS.get(suffixes[-1])
    suffix = suffixes[-2] if compression else suffixes[-1]
    kind = _FORMATS.get(suffix)
    if kind is None or (compression and kind in ("parquet", "arrow")):
        return f"{shown}: unknown kind of file; give {KINDS}"
    if suffix == ".json" and not _holds_lines(path, compression):
        return f"{shown}: not JSON Lines; write one object a line, for example with jq -c '.[]'"
    return Source(
        name=shown,
        label=label,
        path=os.path.abspath(path),  # noqa: PTH100 - links keep their names
        size=path.stat().st_size,
        format=kind,
        compression=compression,
    )


def _holds_lines(path: Path, compression: Compression | None) -> bool:
    """Whether the first line of a .json file is an object, so that the file can be read line by line."""
    try:
        with open_bytes(path, compression) as stream:
            line = stream.readline(_PROBE)
        return line.startswith(b"{") if len(line) == _PROBE else isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
    except DamagedFileError:  # reading it will tell
        return True


def _label(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def _fixed_part(pattern: str) -> Path:
    """The folder above all that a pattern can match."""
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])

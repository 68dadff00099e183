"""A preparation job: its settings, its sources, and where its passes leave their results.

Everything lies below `OUT/.work` until it is merged, so that any process, on any machine that sees the
folder, can go on where another stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from data_prep.corpus.cleaning import CleaningSettings
from data_prep.corpus.inputs import Source
from data_prep.durable import refuse_occupied, write_durably
from data_prep.errors import UserError, one_line
from data_prep.schema import MANIFEST, WORK, Component, Record, read_manifest
from data_prep.tagging.tag_map import TagMap

_SHARD_POSITIONS = 8_388_608
_JOB = "job.json"
_DECISIVE_LIBRARIES = ("datasketch", "ftfy", "numpy", "pyarrow", "py3langid", "spacy", "tokenizers")
"""Another version of one of these may give other bytes."""


class Settings(Record):
    """How a corpus is prepared. With the same sources and settings, the same bytes come out."""

    text_field: str = "text"
    id_field: str = "id"
    cleaning: CleaningSettings = CleaningSettings()
    drop_duplicates: Literal["near", "exact", "none"] = "near"
    tokenizer: str | None = None
    vocab_size: int = 30_522
    """Most pieces of a tokenizer that is trained here."""
    tokenizer_words: int = 20_000_000
    """Most words that a tokenizer is trained on."""
    sequence_length: int = 128
    next_sentence: bool = True
    """Segment pairs with next-sentence labels; else packed sequences."""
    validation_share: float = 0.05
    test_share: float = 0.05
    tagger: str | None = None
    device: Literal["cpu", "gpu"] = "cpu"
    seed: int = 0
    strict: bool = False
    """Stop at the first record that cannot be read."""
    block_size: int = 2_000_000
    """Characters of a preparation block: what is tagged in one go, and where next-sentence partners are."""
    shard_rows: int | None = None
    """Sequences of a shard; by default, as many as make 8,388,608 pieces."""


class Fingerprint(Record):
    """What decides the bytes that come out, apart from the content of the sources."""

    settings: Settings
    sources: tuple[Source, ...]
    tag_map: TagMap
    tagger: Component
    given_tokenizer: str | None
    """Hash of a tokenizer that the user gave."""
    versions: dict[str, str]


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose results go into the shards."""
    return {name: version(name) for name in _DECISIVE_LIBRARIES}


@dataclass(frozen=True)
class Job:
    """A fingerprint and the folder that it is prepared in."""

    out: Path
    fingerprint: Fingerprint

    @property
    def settings(self) -> Settings:
        """The settings of the fingerprint."""
        return self.fingerprint.settings

    @property
    def work(self) -> Path:
        """The folder of everything that is not finished."""
        return self.out / WORK

    @property
    def staging(self) -> Path:
        """Files that are being written, each under a name of its own."""
        return self.work / "staging"

    @property
    def is_complete(self) -> bool:
        """Whether the shards are finished."""
        return (self.out / MANIFEST).is_file()

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks, in the order of their ids."""
        return self.fingerprint.tag_map.task_names

    @property
    def shard_rows(self) -> int:
        """Sequences of a shard."""
        return self.settings.shard_rows or max(_SHARD_POSITIONS // self.settings.sequence_length, 1)


def open_job(out: Path, fingerprint: Fingerprint) -> Job:
    """Begin a job in `out`, or go on with the one that is there.

    Raises:
        UserError: the folder holds something else, or a job with other sources or settings.
    """
    job = Job(out, fingerprint)
    path = job.work / _JOB
    if path.is_file() and not job.is_complete:
        _refuse_difference(path, load_job(out).fingerprint, fingerprint)
        return job
    if job.is_complete:
        _refuse_other_shards(out, fingerprint)
        return job
    if not out.is_dir() or any(item.name != WORK for item in out.iterdir()):
        refuse_occupied(out, "--out")
    job.work.mkdir(parents=True, exist_ok=True)
    write_durably(path, fingerprint.model_dump_json(indent=2) + "\n")
    return job


def load_job(out: Path) -> Job:
    """The unfinished job in `out`; raises UserError where there is none."""
    path = out / WORK / _JOB
    if not path.is_file():
        raise UserError(f"{out}: no unfinished preparation; begin one: data_prep text INPUT --out {out}")
    try:
        return Job(out, Fingerprint.model_validate_json(path.read_bytes()))
    except ValidationError as error:
        raise UserError(
            f"{path}: not a job of this version ({one_line(error)}); remove {out} and begin anew"
        ) from error


def _refuse_other_shards(out: Path, fingerprint: Fingerprint) -> None:
    """Finished shards are left as they are, if they are what was asked for."""
    manifest = read_manifest(out)
    sources = [(source.path, source.bytes) for source in manifest.sources]
    same = (
        manifest.settings == fingerprint.settings.model_dump(mode="json")
        and manifest.tag_map == {task: list(tags) for task, tags in fingerprint.tag_map.tasks.items()}
        and manifest.task_names == list(fingerprint.tag_map.task_names)
        and fingerprint.given_tokenizer in (None, manifest.tokenizer.sha256)
        and manifest.tagger == fingerprint.tagger
        and sources == [(source.name, source.size) for source in fingerprint.sources]
    )
    if not same:
        raise UserError(
            f"{out}: already holds shards, of other input or settings; give another --out, or remove it"
        )


def _refuse_difference(path: Path, begun: Fingerprint, now: Fingerprint) -> None:
    texts = [item.model_dump_json() for item in (begun, now)]
    if texts[0] == texts[1]:  # the order of the tasks counts, too
        return
    names = [{source.name for source in item.sources} for item in (begun, now)]
    if names[0] != names[1]:
        other = min(names[0] ^ names[1])
        raise UserError(
            f"{path.parent.parent}: holds a preparation that was begun with other input, such as "
            f"{'' if other in names[0] else 'without '}{other}; go on as begun, give another --out, or "
            "remove the folder"
        )
    old, new = (_flat(json.loads(text)) for text in texts)
    key = next((key for key in [*old, *new] if old.get(key) != new.get(key)), "the order of the tasks")
    raise UserError(
        f"{path.parent.parent}: holds a preparation that was begun with {key} = {old.get(key)}, now it is "
        f"{new.get(key)}; go on as begun, give another --out, or remove the folder"
    )


def _flat(value: object, name: str = "") -> dict[str, object]:
    """Every leaf of nested JSON by its dotted name; settings go by their bare names, as the options do."""
    items: Sequence[tuple[object, object]]
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return {name.removeprefix("settings.").removeprefix("cleaning."): value}
    flat: dict[str, object] = {name: len(items)} if isinstance(value, list) else {}
    for key, item in items:
        flat |= _flat(item, f"{name}.{key}" if name else str(key))
    return flat

"""The shard format that `data_prep` writes and `pipeline` reads: columns, sentinels and the manifest."""

import hashlib
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from data_prep.errors import UserError

SCHEMA_VERSION = 2
NO_TASK = 255
"""Task id of a piece that belongs to no task: specials, punctuation, other tags."""
NO_WORD = 65_535
"""Word id of a piece that belongs to no word."""
IS_NEXT, IS_RANDOM, NO_LABEL = 0, 1, -1
"""Values of `next_sentence_label`."""

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
TOKENIZER = "tokenizer.json"
WORK = ".work"
"""Folder of an unfinished preparation beside its shards."""
DROPPED = "dropped.jsonl"
"""A line for each document that was left out: its name, the kind of reason, the reason."""

Split = Literal["train", "validation", "test"]


def arrow_schema(vocab_size: int) -> pa.Schema:
    """The columns of a shard; `input_ids` are uint16 unless the vocabulary exceeds 65,536 pieces."""
    piece = pa.uint16() if vocab_size <= 65_536 else pa.int32()
    return pa.schema(
        [
            ("input_ids", pa.list_(piece)),
            ("token_type_ids", pa.list_(pa.uint8())),
            ("task_ids", pa.list_(pa.uint8())),
            ("word_ids", pa.list_(pa.uint16())),
            ("next_sentence_label", pa.int8()),
            ("doc_id", pa.list_(pa.string())),
        ]
    )


class Record(BaseModel):
    """A typed, read-only part of a JSON file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(Record):
    """A tagger or tokenizer, told apart by its hash."""

    name: str
    version: str
    sha256: str


class Source(Record):
    """An input file; `documents` were read from it, before duplicates were left out."""

    path: str
    bytes: int
    sha256: str
    documents: int = 0


class File(Record):
    """A file beside the shards; `path` is relative to the manifest."""

    path: str
    bytes: int
    sha256: str


class Shard(Record):
    """One Arrow file. `task_words` counts words by task name; `path` is relative to the manifest."""

    path: str
    split: Split
    task: str | None
    """The task group of a training shard; held-out shards have none."""
    rows: int
    tokens: int
    task_words: dict[str, int]
    sha256: str


class _Versioned(BaseModel):
    """What manifests of all versions have in common."""

    schema_version: int


class Manifest(Record):
    """Everything that a reader must know about a folder of shards."""

    schema_version: int
    task_names: list[str]
    tag_map: dict[str, list[str]]
    """The tagger's tags that make up each task, in the order of `task_names`."""
    settings: dict[str, JsonValue]
    """How the corpus was prepared: with the same sources and settings, the same bytes come out."""
    sequence_length: int
    next_sentence: bool
    """Whether sequences are pairs with next-sentence labels."""
    vocab_size: int
    seed: int
    tagger: Component
    tokenizer: Component
    sources: list[Source]
    section_words: int | None
    """Where there were too few documents to hold some out, they were cut into sections of so many words."""
    documents: dict[Split, int]
    """Documents, or sections of them, that were kept."""
    words: dict[Split, int]
    """Words of these documents, between white space."""
    dropped: dict[str, int]
    """Documents that were left out, by kind of reason."""
    cleaned: dict[str, int]
    """Documents among the kept ones that cleaning changed, by what it did."""
    without_task: int
    """Training sequences that hold no word of any task, and were left out."""
    files: list[File]
    shards: list[Shard]

    def shards_of(self, split: Split, task: str | None = None) -> list[Shard]:
        """The shards of a split; for the training split, of one task group."""
        return [shard for shard in self.shards if shard.split == split and shard.task == task]

    def train_rows(self, task: str) -> int:
        """Sequences in a task group."""
        return sum(shard.rows for shard in self.shards_of("train", task))

    def train_words(self, task: str) -> int:
        """Words of `task` in its own task group: those that training may mask."""
        return sum(shard.task_words[task] for shard in self.shards_of("train", task))


def manifest_files(manifest: Manifest) -> dict[str, bytes]:
    """The hash of the manifest, as `sha256sum` prints it, and the manifest, whose presence says complete."""
    content = manifest.model_dump_json(indent=2).encode() + b"\n"
    return {MANIFEST_HASH: f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n".encode(), MANIFEST: content}


def read_manifest(folder: Path) -> Manifest:
    """Read and check a manifest; raises UserError where it is missing, altered, or of another version."""
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{folder}: no {MANIFEST}; make the shards first: data_prep text INPUT --out {folder}"
        )
    content = path.read_bytes()
    hash_file = folder / MANIFEST_HASH
    if not hash_file.is_file() or hash_file.read_bytes().split()[:1] != [
        hashlib.sha256(content).hexdigest().encode()
    ]:
        raise UserError(f"{path}: does not match {MANIFEST_HASH}; prepare the shards again")
    try:
        version = _Versioned.model_validate_json(content).schema_version
        if version != SCHEMA_VERSION:
            raise UserError(
                f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; "
                "prepare the shards again"
            )
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}; prepare the shards again") from error

"""The shard format that `data_prep` writes and `pipeline` reads: columns, sentinels and the manifest."""

import hashlib
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from data_prep.errors import UserError

SCHEMA_VERSION = 1
NO_TASK = 255
"""Task id of a piece that belongs to no task: specials, punctuation, other tags."""
NO_WORD = 65_535
"""Word id of a piece that belongs to no word."""
IS_NEXT, IS_RANDOM, NO_LABEL = 0, 1, -1
"""Values of `next_sentence_label`."""

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
TOKENIZER = "tokenizer.json"

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


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Component(_Record):
    """A tagger or tokenizer, told apart by its hash."""

    name: str
    version: str
    sha256: str


class Source(_Record):
    """An input file."""

    path: str
    bytes: int
    sha256: str


class Shard(_Record):
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


class Manifest(_Record):
    """Everything that a reader must know about a folder of shards."""

    schema_version: int
    task_names: list[str]
    sequence_length: int
    vocab_size: int
    seed: int
    tagger: Component
    tokenizer: Component
    sources: list[Source]
    documents: dict[Split, int]
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


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and, in the format of `sha256sum`, its hash."""
    content = manifest.model_dump_json(indent=2).encode() + b"\n"
    (folder / MANIFEST).write_bytes(content)
    (folder / MANIFEST_HASH).write_text(f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n")


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

"""A small folder of shards, written row by row, whose two tasks are no parts of speech."""

import hashlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.durable import sha256_file
from data_prep.schema import MANIFEST, MANIFEST_HASH, TOKENIZER, arrow_schema
from data_prep.sequences.tokenizer import highest_id, train_tokenizer

TASKS = ["colour", "number"]
COLOURS = ["red", "green", "yellow", "violet"]
NUMBERS = ["two", "three", "seven", "twelve"]
NO_TASK, NO_WORD = 255, 65_535


def count_words(rows, num_tasks):
    """The slow count of (word, task) pairs."""
    words = [
        {
            (word, task)
            for word, task in zip(row["word_ids"], row["task_ids"], strict=True)
            if word != NO_WORD and task != NO_TASK
        }
        for row in rows
    ]
    return [sum(task == wanted for row in words for _, task in row) for wanted in range(num_tasks)]


@dataclass
class Draft:
    """Rows by shard, to be changed at will and then written with hashes and counts that fit."""

    tokenizer: object
    rows: dict[str, list[dict]]
    task_names: list[str] = field(default_factory=lambda: list(TASKS))
    sequence_length: int = 32
    schema: pa.Schema | None = None
    manifest: dict = field(default_factory=dict)
    """What its manifest says otherwise."""

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / TOKENIZER))
        vocab_size = highest_id(self.tokenizer) + 1
        tokenizer_hash = sha256_file(folder / TOKENIZER)
        shards = [self._write_shard(folder, path, rows, vocab_size) for path, rows in self.rows.items()]
        content = {
            "schema_version": 2,
            "task_names": self.task_names,
            "tag_map": {name: [name.upper()] for name in self.task_names},
            "settings": {},
            "sequence_length": self.sequence_length,
            "next_sentence": True,
            "vocab_size": vocab_size,
            "seed": 0,
            "tagger": {"name": "tagger", "version": "1", "sha256": "0" * 64},
            "tokenizer": {"name": "WordPiece", "version": "1", "sha256": tokenizer_hash},
            "sources": [{"path": "<corpus>.txt", "bytes": 1234, "sha256": "1" * 64}],
            "section_words": None,
            "documents": {"train": 8, "validation": 2, "test": 2},
            "words": {"train": 80, "validation": 20, "test": 20},
            "dropped": {"too short": 3},
            "cleaned": {},
            "without_task": 0,
            "files": [
                {"path": TOKENIZER, "bytes": (folder / TOKENIZER).stat().st_size, "sha256": tokenizer_hash}
            ],
            "shards": shards,
        } | self.manifest
        write_manifest(folder, content)
        return folder

    def _write_shard(self, folder, path, rows, vocab_size):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        schema = self.schema or arrow_schema(vocab_size)
        with pa.OSFile(str(folder / path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for first in range(0, len(rows), 3):  # several record batches
                stream.write_batch(pa.RecordBatch.from_pylist(rows[first : first + 3], schema=schema))
        split, *task = Path(path).parent.parts
        words = count_words(rows, len(self.task_names))
        return {
            "path": path,
            "split": split,
            "task": task[0] if task else None,
            "rows": len(rows),
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "task_words": dict(zip(self.task_names, words, strict=True)),
            "sha256": sha256_file(folder / path),
        }


def write_manifest(folder, content):
    """Write a manifest, a dict, and the hash that fits."""
    data = (json.dumps(content, indent=2) + "\n").encode()
    (folder / MANIFEST).write_bytes(data)
    (folder / MANIFEST_HASH).write_text(f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n")


def _row(tokenizer, first, second, doc_id, label):
    encoding = tokenizer.encode(first, second)
    words, tasks = [], []
    for position, segment in enumerate(encoding.sequence_ids):
        start, end = encoding.offsets[position]
        word = encoding.word_ids[position]
        text = (first, second)[segment or 0]
        in_word = segment is not None and text[start:end].isalpha()
        words.append(20 * segment + word if in_word else NO_WORD)
        known = {name: task for task, names in enumerate((COLOURS, NUMBERS)) for name in names}
        spelled = text.replace(".", " ").split()[word] if in_word else ""
        tasks.append(known.get(spelled, NO_TASK))
    return {
        "input_ids": encoding.ids,
        "token_type_ids": encoding.type_ids,
        "task_ids": tasks,
        "word_ids": words,
        "next_sentence_label": label,
        "doc_id": [doc_id, doc_id],
    }


@pytest.fixture(scope="session")
def counting_tokenizer():
    texts = [f"the {colour} house has {number} doors." for colour in COLOURS for number in NUMBERS]
    return train_tokenizer(texts * 2, 120)


@pytest.fixture
def draft(counting_tokenizer):
    """Four training shards in two groups, and a shard for each held-out split."""
    pairs = itertools.cycle(itertools.product(COLOURS, NUMBERS))

    def rows(name, number):
        return [
            _row(
                counting_tokenizer,
                f"the {colour} house has {count} doors.",
                f"{count} doors are {colour}.",
                f"{name}-{index // 2}",
                index % 2,
            )
            for index, (colour, count) in enumerate(itertools.islice(pairs, number))
        ]

    return Draft(
        counting_tokenizer,
        {
            "train/colour/shard-00000.arrow": rows("colours", 5),
            "train/colour/shard-00001.arrow": rows("more colours", 2),
            "train/number/shard-00000.arrow": rows("numbers", 4),
            "validation/shard-00000.arrow": rows("validation", 3),
            "test/shard-00000.arrow": rows("test", 4),
        },
    )


@pytest.fixture
def shard_folder(draft, tmp_path):
    """The draft as a folder that is all well."""
    return draft.write(tmp_path / "shards")

"""Whether each file of a folder of shards holds what the manifest says of it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer
from xxhash import xxh3_64_intdigest

from data_prep.durable import sha256_file
from data_prep.schema import MANIFEST, TOKENIZER, Manifest, Shard, Split, arrow_schema
from data_prep.sequences.tokenizer import SPECIALS, highest_id
from data_prep.shards.reading import read_batches
from data_prep.shards.recount import Recount


class Contents:
    """The files that a manifest lists, read one after the other."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest
        self._files = {file.path: file for file in manifest.files}
        self._shards = {shard.path: shard for shard in manifest.shards}
        self._documents = _HeldOutDocuments()

    @property
    def names(self) -> list[str]:
        """The files in the order in which to ask for their faults: held-out shards before the others."""
        return [*self._files, *sorted(self._shards, key=lambda name: self._shards[name].split == "train")]

    def faults(self, name: str) -> Iterator[str]:
        """What is wrong with a file. Altered bytes are not parsed: they may make a reader do anything.

        Raises:
            OSError: it cannot be read.
        """
        path = self._folder / name
        if not path.is_file():
            yield f"listed in {MANIFEST}, but missing"
            return
        file = self._files.get(name) or self._shards[name]
        if sha256_file(path) != file.sha256:
            yield f"its sha256 is not the one in {MANIFEST}: the file was altered"
        elif name in self._shards:
            yield from self._shard_faults(path, self._shards[name])
        else:
            if path.stat().st_size != self._files[name].bytes:
                yield f"has {path.stat().st_size:,} bytes, {MANIFEST} says {self._files[name].bytes:,}"
            if name == TOKENIZER:
                yield from self._tokenizer_faults(path)

    def _tokenizer_faults(self, path: Path) -> Iterator[str]:
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            yield f"not a tokenizer ({error})"
            return
        missing = [special for special in SPECIALS if tokenizer.token_to_id(special) is None]
        if missing:
            yield f"lacks {', '.join(missing)}"
        found, said = highest_id(tokenizer) + 1, self._manifest.vocab_size
        if found != said:
            yield f"has a vocabulary of {found:,} pieces, {MANIFEST} says {said:,}"

    def _shard_faults(self, path: Path, shard: Shard) -> Iterator[str]:
        names = self._manifest.task_names
        try:
            schema, batches = read_batches(path)
            if schema != arrow_schema(self._manifest.vocab_size):
                yield "its columns are not those of a shard"
                return
            recount = Recount(
                num_tasks=len(names),
                vocab_size=self._manifest.vocab_size,
                sequence_length=self._manifest.sequence_length,
                group=names.index(shard.task) if shard.task else None,
            )
            for batch in batches:
                recount.add(batch)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            yield f"not a readable Arrow stream ({error})"
            return
        yield from recount.faults
        counted = {"rows": recount.rows, "tokens": recount.tokens}
        counted |= {f"words of {name}": int(recount.words[i]) for i, name in enumerate(names)}
        listed = {"rows": shard.rows, "tokens": shard.tokens}
        listed |= {f"words of {name}": shard.task_words[name] for name in names}
        for what, number in counted.items():
            if number != listed[what]:
                yield f"holds {number:,} {what}, {MANIFEST} says {listed[what]:,}"
        yield from self._documents.faults(shard.split, batches)


class _HeldOutDocuments:
    """The split of each held-out document, by a 64-bit hash of its name: about 100 bytes a document."""

    def __init__(self) -> None:
        self._split_of: dict[int, Split] = {}

    def faults(self, split: Split, batches: list[pa.RecordBatch]) -> Iterator[str]:
        """Documents of a shard that are in another split too; held-out shards come first."""
        shared: dict[str, Split] = {}
        for batch in batches:
            for name in batch.column(5).flatten().unique().to_pylist():
                key = xxh3_64_intdigest(name.encode())
                if split == "train":
                    other = self._split_of.get(key, split)
                else:
                    other = self._split_of.setdefault(key, split)
                if other != split:
                    shared[name] = other
        if shared:
            name, other = next(iter(shared.items()))
            more = f", and {len(shared) - 1:,} more such documents" if len(shared) > 1 else ""
            yield f'its document "{name}" is in the {other} split too{more}'

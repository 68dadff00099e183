"""Reading of what data_prep wrote: manifest, tokenizer and tables of sequences."""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from data_prep.schema import Manifest, read_manifest
from data_prep.shards.reading import SequenceTable, read_tokenizer


class Shards:
    """A folder of shards: manifest, tokenizer, tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.tokenizer: Tokenizer = read_tokenizer(folder, self.manifest)
        self.pad_id = self._special_id("[PAD]")
        self.mask_id = self._special_id("[MASK]")
        self.sep_id = self._special_id("[SEP]")

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path]]:
        return Shards, (self.folder,)  # tables are mapped from disk again, not copied

    def _special_id(self, special: str) -> int:
        found = self.tokenizer.token_to_id(special)
        assert found is not None, f"data_prep writes no tokenizer without {special}"
        return found

    @property
    def task_names(self) -> list[str]:
        """The masked-word tasks, in the order of their ids."""
        return self.manifest.task_names

    @cached_property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """Ids of all pieces that are not specials; a tokenizer taken from elsewhere may leave ids out."""
        specials = [i for i, token in self.tokenizer.get_added_tokens_decoder().items() if token.special]
        return np.setdiff1d(list(self.tokenizer.get_vocab().values()), specials)

    def train_table(self, task: str) -> SequenceTable:
        """A task group."""
        return SequenceTable(self.folder, self.manifest, self.manifest.shards_of("train", task))

    def piece_counts(self) -> NDArray[np.int64]:
        """[T, V] how often each piece stands in a word of each task, in all training sequences."""
        num_tasks, vocab_size = len(self.task_names), self.manifest.vocab_size
        return sum(
            (self.train_table(task).piece_counts(num_tasks, vocab_size) for task in self.task_names),
            np.zeros((num_tasks, vocab_size), np.int64),
        )

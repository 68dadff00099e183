"""Stored sequences read back row by row."""

import pytest

from data_prep.errors import UserError
from data_prep.schema import read_manifest
from data_prep.shards.reading import SequenceTable, read_tokenizer


@pytest.fixture
def table(shard_folder):
    manifest = read_manifest(shard_folder)
    return SequenceTable(shard_folder, manifest, manifest.shards_of("train", "colour"))


def test_the_rows_of_several_shards_are_one_table(draft, table):
    written = draft.rows["train/colour/shard-00000.arrow"] + draft.rows["train/colour/shard-00001.arrow"]
    assert len(table) == len(written) == 7
    for index, row in enumerate(written):
        found = table[index]
        for name in ("input_ids", "token_type_ids", "task_ids", "word_ids"):
            assert getattr(found, name).tolist() == row[name]
        assert found.next_sentence_label == row["next_sentence_label"]
        assert list(found.doc_id) == row["doc_id"]
    assert table.lengths().tolist() == [len(row["input_ids"]) for row in written]


def test_pieces_are_counted_by_task(draft, table):
    counts = table.piece_counts(2, draft.tokenizer.get_vocab_size())
    rows = draft.rows["train/colour/shard-00000.arrow"] + draft.rows["train/colour/shard-00001.arrow"]
    assert counts[0].sum() == sum(task == 0 for row in rows for task in row["task_ids"])
    assert counts[1, rows[0]["input_ids"][0]] == 0  # [CLS] has no task


def test_no_shards_are_an_empty_table(shard_folder):
    empty = SequenceTable(shard_folder, read_manifest(shard_folder), [])
    assert len(empty) == len(empty.lengths()) == 0


@pytest.mark.parametrize("content", [None, b"no stream"])
def test_a_shard_that_is_missing_or_no_arrow_stream_is_named(shard_folder, content):
    path = shard_folder / "test" / "shard-00000.arrow"
    path.write_bytes(content) if content else path.unlink()
    manifest = read_manifest(shard_folder)
    with pytest.raises(UserError, match=r"test/shard-00000\.arrow"):
        SequenceTable(shard_folder, manifest, manifest.shards_of("test"))


def test_only_the_tokenizer_that_the_manifest_describes_is_read(draft, shard_folder):
    manifest = read_manifest(shard_folder)
    assert read_tokenizer(shard_folder, manifest).get_vocab() == draft.tokenizer.get_vocab()
    path = shard_folder / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        read_tokenizer(shard_folder, manifest)
    path.unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        read_tokenizer(shard_folder, manifest)

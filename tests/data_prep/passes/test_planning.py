"""What is decided once for all parts: names, duplicates, blocks."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.passes.planning import make_blocks
from tests.data_prep.conftest import prepare_files

TRAIN, VALIDATION, TEST = range(3)


def blocks_of(lengths, size, split=TRAIN):
    lengths = np.array(lengths, np.int64)
    return list(make_blocks(np.full(len(lengths), split), lengths, lengths // 5, size))


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(50, 1_000))
def test_blocks_are_ranges_of_about_their_size_that_leave_nothing_out(lengths, size):
    blocks = blocks_of(lengths, size)
    assert [block.first for block in blocks] == [0, *(block.last for block in blocks[:-1])]
    assert blocks[-1].last == len(lengths)
    characters = [sum(lengths[block.first : block.last]) for block in blocks]
    assert all(number <= size + 400 for number in characters[:-1])
    assert characters[-1] <= 1.5 * size + 400
    assert len(blocks) == 1 or characters[-1] >= size / 2
    assert [block.words for block in blocks] == [
        sum(length // 5 for length in lengths[block.first : block.last]) for block in blocks
    ]


def test_a_block_holds_documents_of_one_split():
    splits = np.repeat([TRAIN, VALIDATION, TEST], 10)
    blocks = list(make_blocks(splits, np.full(30, 100), np.full(30, 20), 300))
    assert {(block.split, block.first // 10, (block.last - 1) // 10) for block in blocks} == {
        ("train", 0, 0),
        ("validation", 1, 1),
        ("test", 2, 2),
    }


@pytest.fixture
def dropped(documents, tmp_path):
    """A function that prepares texts and gives the manifest and the lines of what was left out."""

    def run(texts, **changes):
        path = tmp_path / "corpus.jsonl"
        path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts))
        out = tmp_path / "shards"
        manifest = prepare_files([path], out, **changes)
        return manifest, [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]

    return run


@pytest.fixture
def with_copies(documents):
    """Originals, a copy of one, one with two words changed, and a second document of the same name."""
    originals = [(item.doc_id, item.text) for item in documents[:30]]
    long = max(documents[:30], key=lambda item: len(item.text))
    nearly = long.text.replace(" ", "  ", 3).rsplit(" ", 2)[0] + " the end"
    return long.doc_id, [*originals, ("copy", long.text), ("nearly", nearly), originals[0]]


def test_copies_are_left_out_and_named_with_what_they_are_copies_of(dropped, with_copies):
    original, texts = with_copies
    manifest, lines = dropped(texts)
    assert lines == [
        {"document": "copy", "kind": "exact_duplicate", "reason": f"of {original}"},
        {"document": "nearly", "kind": "near_duplicate", "reason": f"of {original}"},
        {"document": f"{texts[0][0]}~2", "kind": "exact_duplicate", "reason": f"of {texts[0][0]}"},
    ]
    assert manifest.dropped == {"exact_duplicate": 2, "near_duplicate": 1}
    assert sum(manifest.documents.values()) == 30


@pytest.mark.parametrize(("kept", "num_kept"), [("exact", 31), ("none", 33)])
def test_duplicates_are_kept_where_the_user_wants_them(dropped, with_copies, kept, num_kept):
    manifest, lines = dropped(with_copies[1], drop_duplicates=kept)
    assert sum(manifest.documents.values()) == num_kept
    assert sum(manifest.dropped.values()) == len(lines) == 33 - num_kept


def test_what_cannot_be_read_is_named_in_its_place(dropped, documents, tmp_path):
    texts = [(item.doc_id, item.text) for item in documents[:25]]
    path = tmp_path / "bad.jsonl"
    path.write_text('[1]\n{"id": "x", "text": ""}\n')
    good = tmp_path / "good.jsonl"
    good.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts))
    manifest = prepare_files([path, good], tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["document"].rpartition("/")[2]) for line in lines] == [
        ("not_json", "bad.jsonl, line 1"),
        ("empty", "bad.jsonl, line 2"),
    ]
    assert manifest.dropped == {"empty": 1, "not_json": 1}


def test_changes_are_counted_in_documents_that_are_kept(dropped, documents):
    broken = "He said “no” twiceâ€¦ and left. "
    texts = [(item.doc_id, item.text) for item in documents[:25]]
    more = [("kept", broken + documents[30].text), ("gone", ""), ("copy", texts[1][1])]
    manifest, _ = dropped([*texts, *more])
    assert manifest.cleaned == {"normalized": 1, "paragraphs_removed": 0}
    (source,) = manifest.sources
    assert source.documents == 27


def test_a_long_document_is_cut_and_its_parts_stay_in_one_split(documents, tmp_path):
    book = "\n\n".join(document.text for document in documents) * 30
    lines = [json.dumps({"id": item.doc_id, "text": item.text}) for item in documents[:30]]
    path, out = tmp_path / "corpus.jsonl", tmp_path / "out"
    path.write_text("\n".join([json.dumps({"id": "book", "text": book}), *lines]))
    assert len(book) > 2_000_000
    manifest = prepare_files([path], out, drop_duplicates="none")
    splits = {}
    for shard in manifest.shards:
        with pa.ipc.open_stream(out / shard.path) as stream:
            for name in stream.read_all()["doc_id"].combine_chunks().flatten().unique().to_pylist():
                splits.setdefault(name.partition("#")[0], set()).add(shard.split)
                assert not name.startswith("book") or name in ("book#1", "book#2")
    assert len(splits["book"]) == 1

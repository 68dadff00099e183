"""The folder that `pipeline` reads: Arrow streams and the manifest."""

import subprocess
from collections import Counter
from contextlib import suppress
from itertools import pairwise

import datasets
import pyarrow as pa
import pytest

from data_prep.corpus.documents import Document
from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import NO_TASK, NO_WORD, arrow_schema, manifest_files, read_manifest
from data_prep.sequences.tokenizer import load_tokenizer
from data_prep.tagging.tag_map import load_tag_map

TASK_NAMES = load_tag_map().task_names

COLUMNS = pa.schema(
    {
        "input_ids": pa.list_(pa.uint16()),
        "token_type_ids": pa.list_(pa.uint8()),
        "task_ids": pa.list_(pa.uint8()),
        "word_ids": pa.list_(pa.uint16()),
        "next_sentence_label": pa.int8(),
        "doc_id": pa.list_(pa.string()),
    }
)


def read(path):
    with pa.ipc.open_stream(path) as stream:
        return stream.read_all()


def rows(folder, shards):
    return [row for shard in shards for row in read(folder / shard.path).to_pylist()]


def words_per_task(row):
    """The slow count: distinct words of a row by the name of their task."""
    words = {
        (word, task)
        for word, task in zip(row["word_ids"], row["task_ids"], strict=True)
        if word != NO_WORD and task != NO_TASK
    }
    return Counter(TASK_NAMES[task] for _, task in words)


@pytest.fixture(scope="module")
def manifest(prepared):
    return read_manifest(prepared.path)


def test_the_folder_holds_what_the_manifest_lists_and_nothing_else(prepared, manifest):
    found = {
        path.relative_to(prepared.path).as_posix() for path in prepared.path.rglob("*") if path.is_file()
    }
    assert found == {
        "manifest.json",
        "manifest.sha256",
        "tokenizer.json",
        "dropped.jsonl",
        "validation/shard-00000.arrow",
        "test/shard-00000.arrow",
        *(f"train/{task}/shard-00000.arrow" for task in TASK_NAMES),
    }
    listed = {item.path for item in [*manifest.files, *manifest.shards]}
    assert found == {"manifest.json", "manifest.sha256"} | listed


def test_every_shard_opens_as_an_arrow_stream_and_as_a_data_set(prepared, manifest, tmp_path):
    for shard in manifest.shards:
        path = str(prepared.path / shard.path)
        expected = read(path).to_pylist()
        assert len(expected) == shard.rows > 0
        assert datasets.Dataset.from_file(path).to_list() == expected


def test_the_shards_of_a_split_load_as_one_data_set(prepared, manifest, tmp_path):
    splits = {}
    for shard in manifest.shards:
        splits.setdefault(shard.split, []).append(shard)
    files = {split: [str(prepared.path / shard.path) for shard in shards] for split, shards in splits.items()}
    loaded = datasets.load_dataset("arrow", data_files=files, cache_dir=str(tmp_path))
    for split, shards in splits.items():
        assert loaded[split].to_list() == rows(prepared.path, shards)


def test_columns_have_the_agreed_names_and_types(prepared, manifest):
    for shard in manifest.shards:
        assert read(prepared.path / shard.path).schema.equals(COLUMNS)


@pytest.mark.parametrize(
    ("vocab_size", "piece"),
    [(64, pa.uint16()), (65_536, pa.uint16()), (65_537, pa.int32()), (250_000, pa.int32())],
)
def test_piece_ids_take_two_bytes_until_the_vocabulary_exceeds_what_two_bytes_hold(vocab_size, piece):
    expected = COLUMNS.set(0, pa.field("input_ids", pa.list_(piece)))
    assert arrow_schema(vocab_size).equals(expected)


def test_a_large_vocabulary_keeps_its_piece_ids(prepared, prepare, tmp_path):
    """Every letter of this vocabulary has an id above 65,535."""
    letters = "abcdefghijklmnopqrstuvwxyz.,:;'-()"
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *(f"[unused{number}]" for number in range(65_540)),
    ]
    pieces += [*letters, *(f"##{letter}" for letter in letters)]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    made = prepare(prepared.documents[:24], tokenizer=str(tmp_path))
    assert made.manifest.vocab_size == len(pieces)
    for shard in made.manifest.shards:
        table = read(made.path / shard.path)
        assert table.schema.field("input_ids").type == pa.list_(pa.int32())
        found = set(table["input_ids"].combine_chunks().flatten().to_pylist())
        assert max(found) > 65_535
        assert found <= {1, 2, 3} | set(range(65_545, len(pieces)))


def test_many_rows_go_to_several_shards_and_keep_their_order(prepared, prepare):
    small = prepare(prepared.documents, shard_rows=7)
    manifest = prepared.manifest
    for split, task in [*(("train", task) for task in TASK_NAMES), ("validation", None), ("test", None)]:
        whole, parts = manifest.shards_of(split, task), small.manifest.shards_of(split, task)
        assert [shard.rows for shard in parts[:-1]] == [7] * (len(parts) - 1)
        assert rows(small.path, parts) == rows(prepared.path, whole)
    assert len(small.manifest.shards) > 2 * len(manifest.shards)


def test_rows_are_well_formed(prepared, manifest):
    for row in rows(prepared.path, manifest.shards):
        length = len(row["input_ids"])
        assert length <= manifest.sequence_length == 64
        assert {len(row[name]) for name in ("token_type_ids", "task_ids", "word_ids")} == {length}
        assert row["input_ids"][0] == 2
        assert [place for place, piece in enumerate(row["input_ids"]) if piece == 3][1:] == [length - 1]
        assert max(row["input_ids"]) < manifest.vocab_size
        assert set(row["task_ids"]) <= {*range(9), NO_TASK}
        assert set(row["token_type_ids"]) == {0, 1}
        assert row["next_sentence_label"] == (row["doc_id"][0] != row["doc_id"][1])
        for before, after in pairwise(zip(row["word_ids"], row["task_ids"], strict=True)):
            assert before[0] != after[0] or before[0] == NO_WORD or before[1] == after[1]


def test_each_training_sequence_stands_in_one_folder_and_holds_a_word_of_its_task(prepared, manifest):
    seen = Counter()
    for task in TASK_NAMES:
        for row in rows(prepared.path, manifest.shards_of("train", task)):
            assert words_per_task(row)[task] > 0
            seen[(*row["input_ids"], *row["doc_id"])] += 1
    assert len(seen) > 100
    assert set(seen.values()) == {1}


def test_a_document_belongs_to_one_split(prepared, manifest):
    split_of = {}
    for shard in manifest.shards:
        for row in rows(prepared.path, [shard]):
            for doc_id in row["doc_id"]:
                assert split_of.setdefault(doc_id, shard.split) == shard.split
    assert Counter(split_of.values()) == manifest.documents
    assert set(split_of) == {document.doc_id for document in prepared.documents}


def test_every_piece_of_the_corpus_is_in_the_shards_unless_its_sequence_has_no_task(prepared, manifest):
    """First segments and their continuations, put together, are the document as the tokenizer reads it."""
    tokenizer = load_tokenizer(prepared.path)
    pieces = {}
    for row in rows(prepared.path, manifest.shards):
        own = [
            place
            for place, type_id in enumerate(row["token_type_ids"])
            if not type_id or not row["next_sentence_label"]
        ]
        counter = pieces.setdefault(row["doc_id"][0], Counter())
        counter.update(piece for place in own if (piece := row["input_ids"][place]) not in (2, 3))
    for document in prepared.documents:
        expected = Counter()
        for paragraph in document.paragraphs:
            expected.update(tokenizer.encode(paragraph, add_special_tokens=False).ids)
        assert pieces[document.doc_id] == expected


def test_the_counts_of_the_manifest_are_those_of_its_shards(prepared, manifest):
    for shard in manifest.shards:
        table = rows(prepared.path, [shard])
        words = sum(map(words_per_task, table), Counter())
        assert shard.rows == len(table)
        assert shard.tokens == sum(len(row["input_ids"]) for row in table)
        assert shard.task_words == {task: words[task] for task in TASK_NAMES}
        assert shard.sha256 == sha256_file(prepared.path / shard.path)
    assert manifest.task_names == list(TASK_NAMES)


def test_the_manifest_names_tagger_tokenizer_and_sources_by_their_hashes(prepared, manifest, tagger):
    assert manifest.tagger == tagger.component
    assert manifest.tokenizer.sha256 == sha256_file(prepared.path / "tokenizer.json")
    (source,) = manifest.sources
    assert source.sha256 == sha256_file(prepared.path.parent / "corpus.jsonl")


def test_the_hash_of_the_manifest_satisfies_sha256sum(prepared):
    check = subprocess.run(
        ["sha256sum", "-c", "manifest.sha256"], cwd=prepared.path, capture_output=True, text=True
    )
    assert (check.returncode, check.stdout) == (0, "manifest.json: OK\n")


def test_a_manifest_read_back_is_the_one_that_was_written(prepared, manifest):
    assert manifest == prepared.manifest
    assert manifest.schema_version == 2


def write(folder, manifest):
    for name, content in manifest_files(manifest).items():
        (folder / name).write_bytes(content)


def refusal(folder):
    with pytest.raises(UserError) as error:
        read_manifest(folder)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_a_missing_manifest_is_refused_with_the_command_that_makes_it(tmp_path):
    assert f"data_prep text INPUT --out {tmp_path}" in refusal(tmp_path)


def test_an_altered_manifest_is_refused(manifest, tmp_path):
    write(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    assert "does not match manifest.sha256; prepare the shards again" in refusal(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_manifest_without_its_hash_is_refused(manifest, tmp_path, content):
    write(tmp_path, manifest)
    (tmp_path / "manifest.sha256").unlink()
    if content is not None:
        (tmp_path / "manifest.sha256").write_bytes(content)
    assert "does not match manifest.sha256" in refusal(tmp_path)


def test_a_manifest_of_another_version_is_refused(manifest, tmp_path):
    write(tmp_path, manifest.model_copy(update={"schema_version": 3}))
    assert "schema version 3, this program reads 2" in refusal(tmp_path)


def test_a_manifest_of_another_version_is_refused_even_if_it_has_other_fields(manifest, tmp_path):
    class Later(type(manifest)):
        modality: str

    write(tmp_path, Later(**manifest.model_dump() | {"schema_version": 3, "modality": "text"}))
    assert "schema version 3, this program reads 2" in refusal(tmp_path)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("given_tokenizer", [False, True])
def test_two_runs_on_the_same_input_give_the_same_bytes(prepared, prepare, tokenizer_file, given_tokenizer):
    tokenizer = str(tokenizer_file) if given_tokenizer else None
    first, second = (
        prepare(prepared.documents[:20], run, tokenizer=tokenizer) for run in ("first", "second")
    )
    assert contents(first.path) == contents(second.path)


def test_another_seed_gives_other_shards(prepared, prepare, tokenizer_file):
    first, second = (
        prepare(prepared.documents[:20], f"seed{seed}", tokenizer=str(tokenizer_file), seed=seed)
        for seed in (1, 2)
    )
    assert contents(first.path) != contents(second.path)


def test_a_trained_tokenizer_has_seen_the_training_split_alone(prepared, prepare):
    """Each document repeats a letter of its own; only those of training documents are in the vocabulary."""
    originals = prepared.documents[:20]
    letters = {document.doc_id: chr(0x0561 + number) for number, document in enumerate(originals)}
    made = prepare([Document(item.doc_id, f"{item.text} {letters[item.doc_id] * 3}") for item in originals])
    shards = [shard for shard in made.manifest.shards if shard.split == "train"]
    train = {row["doc_id"][0] for row in rows(made.path, shards)}
    vocabulary = load_tokenizer(made.path).get_vocab()
    assert {doc_id for doc_id, letter in letters.items() if letter in vocabulary} == train


@pytest.mark.parametrize("break_", ["\n\n", " "], ids=["paragraphs", "one line"])
def test_a_corpus_of_few_documents_is_split_by_sections_and_the_user_is_told(prepared, prepare, break_):
    made = prepare([Document("book", break_.join(document.text for document in prepared.documents))])
    assert made.manifest.section_words == 105
    names = {name for row in rows(made.path, made.manifest.shards) for name in row["doc_id"]}
    assert len(names) >= 10
    assert all(name.startswith("book#") for name in names)


@pytest.mark.parametrize("smallest", ["Hello", "\u200b\u200b", "..."])
def test_each_split_gets_a_sequence_or_the_corpus_is_refused(prepared, prepare, tokenizer_file, smallest):
    """Nine documents too large for a small held-out split, and one that gives no sequence by itself."""
    words = " ".join(document.text for document in prepared.documents).split()
    texts = [" ".join(words[500 * number :][:500]) for number in range(9)] + [smallest]
    documents = [Document(f"d{number}", text) for number, text in enumerate(texts)]
    with suppress(UserError):
        made = prepare(documents, tokenizer=str(tokenizer_file), test_share=0.05, validation_share=0.05)
        assert made.manifest.shards_of("validation")
        assert made.manifest.shards_of("test")

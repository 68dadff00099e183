"""`data_prep verify`: whatever is altered in a folder of shards is found and named."""

import hashlib
import json
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.errors import UserError
from data_prep.schema import arrow_schema
from data_prep.shards.recount import Recount
from data_prep.shards.verify import Problem, report_problems, verify_folder

from .conftest import NO_TASK, NO_WORD, count_words, write_manifest

FILES = [
    "manifest.json",
    "manifest.sha256",
    "tokenizer.json",
    "train/colour/shard-00000.arrow",
    "train/colour/shard-00001.arrow",
    "train/number/shard-00000.arrow",
    "validation/shard-00000.arrow",
    "test/shard-00000.arrow",
]
SHARD = "train/colour/shard-00000.arrow"
SAME_FOLDER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150
)


def named(problems):
    """Everything that the lines of a report name."""
    return " ".join(map(str, problems))


def messages(folder, path):
    return [problem.message for problem in verify_folder(folder) if problem.path == path]


def edit_manifest(folder, change):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    write_manifest(folder, content)


def test_a_folder_that_is_all_well_has_no_problem_and_one_line(shard_folder, capsys):
    assert {path.relative_to(shard_folder).as_posix() for path in shard_folder.rglob("*.*")} == set(FILES)
    assert verify_folder(shard_folder) == []
    assert report_problems(shard_folder) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1
    assert "all is well: 8 files, 18 rows" in printed[0]


@SAME_FOLDER
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_found_and_its_file_is_named(shard_folder, data):
    path = shard_folder / data.draw(st.sampled_from(FILES))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[place] ^ data.draw(st.integers(1, 255))
    try:
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        assert path.relative_to(shard_folder).as_posix() in named(verify_folder(shard_folder))
    finally:
        path.write_bytes(content)


@SAME_FOLDER
@given(data=st.data())
def test_a_truncated_or_lengthened_file_is_found_and_named(shard_folder, data):
    path = shard_folder / data.draw(st.sampled_from(FILES))
    content = path.read_bytes()
    ends = st.integers(0, len(content) - 1).map(lambda end: content[:end])
    try:
        path.write_bytes(data.draw(ends | st.binary(min_size=1, max_size=9).map(content.__add__)))
        assert path.relative_to(shard_folder).as_posix() in named(verify_folder(shard_folder))
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(shard_folder, name):
    (shard_folder / name).unlink()
    assert name in [problem.path for problem in verify_folder(shard_folder)]


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        ".hidden",
        ".trash/notes.txt",
        "train/colour/shard-00002.arrow",
        "train/.copy.arrow",
        "deep/er/x",
    ],
)
def test_a_file_that_the_manifest_does_not_list_is_named(shard_folder, name):
    (shard_folder / name).parent.mkdir(parents=True, exist_ok=True)
    (shard_folder / name).write_bytes(b"")
    assert [problem.path for problem in verify_folder(shard_folder)] == [name]


def test_two_shards_that_changed_places_are_both_named(shard_folder):
    first, second = (shard_folder / FILES[3], shard_folder / FILES[4])
    aside = shard_folder.parent / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    assert [problem.path for problem in verify_folder(shard_folder)] == FILES[3:5]


def test_a_renamed_shard_is_both_missing_and_a_stray_file(shard_folder):
    (shard_folder / SHARD).rename(shard_folder / "train/colour/shard-00007.arrow")
    problems = {problem.path: problem.message for problem in verify_folder(shard_folder)}
    assert "stray" in problems.pop("train/colour/shard-00007.arrow")
    assert "missing" in problems.pop(SHARD)
    assert not problems


@pytest.mark.parametrize(
    "change", [str.upper, str.strip, lambda line: line.replace("\n", "\r\n"), lambda line: ""]
)
def test_the_hash_of_the_manifest_stands_in_exactly_one_form(shard_folder, change):
    path = shard_folder / "manifest.sha256"
    path.write_bytes(change(path.read_text()).encode())
    (problem,) = verify_folder(shard_folder)
    assert problem.path == "manifest.json"
    assert "manifest.sha256" in problem.message


def test_a_work_folder_is_an_unfinished_preparation(shard_folder, tmp_path):
    (shard_folder / ".work" / "tags").mkdir(parents=True)
    (shard_folder / ".work" / "tags" / "00001").write_text("half")
    (problem,) = verify_folder(shard_folder)
    assert problem.path == ".work"
    assert "unfinished" in problem.message
    (tmp_path / "begun" / ".work").mkdir(parents=True)
    assert ".work" in [problem.path for problem in verify_folder(tmp_path / "begun")]


def test_what_is_no_folder_of_shards_is_the_user_s_mistake(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    for name in ("file", "empty", "nowhere"):
        with pytest.raises(UserError, match="data_prep text"):
            verify_folder(tmp_path / name)


def test_problems_are_printed_one_a_line_and_the_check_fails(shard_folder, capsys):
    (shard_folder / SHARD).write_bytes(b"")
    (shard_folder / "two\nlines").write_bytes(b"")
    (shard_folder / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"")
    assert report_problems(shard_folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["not-\\udcff-utf8", "two lines", SHARD]
    assert "3 problems" in lines[-1]


FAULTS = {
    "is not below": lambda row: row["input_ids"].__setitem__(2, 60_000),
    "a task id that is neither below 2 nor 255": lambda row: row.update(
        task_ids=[2 if task == 1 else task for task in row["task_ids"]]
    ),
    "next_sentence_label": lambda row: row.update(next_sentence_label=2),
    "unequal lengths": lambda row: row["token_type_ids"].append(1),
    "longer than 32": lambda row: row.update({name: row[name] * 3 for name in list(row)[:4]}),
    "no piece": lambda row: row.update({name: [] for name in list(row)[:4]}),
    "no word of its task": lambda row: row.update(
        task_ids=[NO_TASK if task == 0 else task for task in row["task_ids"]]
    ),
    "a word of two tasks": lambda row: row.update(word_ids=[7] * len(row["word_ids"])),
    "to a piece of no word": lambda row: row["task_ids"].__setitem__(0, 1),
    "more segments than documents": lambda row: row["doc_id"].pop(),
    "null": lambda row: row.update(doc_id=None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_breaks_the_format_is_found_although_all_hashes_fit(draft, tmp_path, fault):
    FAULTS[fault](draft.rows[SHARD][4])
    folder = draft.write(tmp_path / "shards")
    found = [problem for problem in verify_folder(folder) if fault in problem.message]
    assert [problem.path for problem in found] == [SHARD]
    assert "row 3" in found[0].message if fault == "null" else "row 4 " in found[0].message


def test_counts_that_the_manifest_gets_wrong_are_named(shard_folder):
    def change(content):
        shard = next(shard for shard in content["shards"] if shard["path"] == SHARD)
        shard["rows"] += 1
        shard["tokens"] -= 1
        shard["task_words"]["number"] += 2

    edit_manifest(shard_folder, change)
    assert [message.split(",")[0] for message in messages(shard_folder, SHARD)] == [
        "holds 5 rows",
        "holds 85 tokens",
        "holds 10 words of number",
    ]


def test_a_document_in_two_splits_is_named(draft, tmp_path):
    draft.rows[SHARD][1]["doc_id"] = ["colours-0", "test-1"]
    draft.rows["test/shard-00000.arrow"][0]["doc_id"] = ["validation-0", "test-0"]
    problems = verify_folder(draft.write(tmp_path / "shards"))
    assert problems == [
        Problem("test/shard-00000.arrow", 'its document "validation-0" is in the validation split too'),
        Problem(SHARD, 'its document "test-1" is in the test split too'),
    ]


def test_columns_must_be_those_of_the_vocabulary(draft, tmp_path):
    draft.schema = arrow_schema(70_000)
    problems = verify_folder(draft.write(tmp_path / "shards"))
    assert {problem.message for problem in problems} == {"its columns are not those of a shard"}
    assert len(problems) == 5


def test_a_tokenizer_of_another_size_is_named(draft, tmp_path):
    draft.manifest = {"vocab_size": 119}
    folder = draft.write(tmp_path / "shards")
    (message,) = messages(folder, "tokenizer.json")
    assert "119" in message


def test_a_listed_file_that_is_no_arrow_stream_is_named(draft, tmp_path):
    folder = draft.write(tmp_path / "shards")
    (folder / SHARD).write_bytes(b"no stream")

    def change(content):
        shard = next(shard for shard in content["shards"] if shard["path"] == SHARD)
        shard["sha256"] = hashlib.sha256(b"no stream").hexdigest()

    edit_manifest(folder, change)
    (message,) = messages(folder, SHARD)
    assert "not a readable Arrow stream" in message


CONTRADICTIONS = {
    "different names": lambda content: content.update(task_names=["colour", "colour"]),
    "twice": lambda content: content["shards"].append(content["shards"][0]),
    "outside": lambda content: content["shards"][0].update(path="../elsewhere.arrow"),
    "of the task sound": lambda content: content["shards"][0].update(task="sound"),
    "does not count each task": lambda content: content["shards"][0]["task_words"].pop("colour"),
    "tokenizer.json": lambda content: content.update(files=[]),
    "schema version 1": lambda content: content.update(schema_version=1),
    "unknown": lambda content: content.update(unknown=1),
}


@pytest.mark.parametrize("said", CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_named(shard_folder, said):
    edit_manifest(shard_folder, CONTRADICTIONS[said])
    problems = verify_folder(shard_folder)
    assert {problem.path for problem in problems} == {"manifest.json"}
    assert said in named(problems)


@given(data=st.data())
@settings(deadline=None)
def test_the_recount_is_that_of_a_slow_count(data):
    """Words may lie in several stretches, and in any order of their ids."""
    rows = []
    for _ in range(data.draw(st.integers(1, 6))):
        words = data.draw(st.lists(st.integers(0, 9) | st.just(NO_WORD), min_size=1, max_size=12))
        task_of = {word: data.draw(st.sampled_from([0, 1, 253, NO_TASK])) for word in set(words)}
        task_of[NO_WORD] = NO_TASK
        rows.append(
            {
                "input_ids": [1] * len(words),
                "token_type_ids": [0] * len(words),
                "task_ids": [task_of[word] for word in words],
                "word_ids": words,
                "next_sentence_label": -1,
                "doc_id": ["a"],
            }
        )
    recount = Recount(num_tasks=254, vocab_size=2, sequence_length=12, group=None)
    for part in (rows[:2], rows[2:]):
        recount.add(pa.RecordBatch.from_pylist(part, schema=arrow_schema(2)))
    assert recount.faults == []
    assert (recount.rows, recount.tokens) == (len(rows), sum(len(row["word_ids"]) for row in rows))
    np.testing.assert_array_equal(recount.words, count_words(rows, 254))

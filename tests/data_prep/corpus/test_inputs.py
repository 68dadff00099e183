"""What a user names becomes sources."""

import json
import os
import pickle

import datasets
import pytest

from data_prep.corpus.documents import Document
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import Source, find_sources, source_identity
from data_prep.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with some files."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b/z.txt",
        "b/a.txt.gz",
        "b/A.jsonl",
        "b-c.txt",
        "b/sub/é.csv",
        "b/.hidden.txt",
        "b/note.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def names(*given):
    return [source.name for source in find_sources(given).sources]


def test_files_keep_the_order_in_which_they_are_named(folder):
    assert names("b/z.txt", "b-c.txt", "b/A.jsonl") == ["b/z.txt", "b-c.txt", "b/A.jsonl"]


def test_a_folder_is_read_with_all_below_it_by_the_bytes_of_the_paths(folder):
    assert names("b") == ["b/A.jsonl", "b/a.txt.gz", "b/sub/é.csv", "b/z.txt"]
    assert names(".") == ["b-c.txt", "b/A.jsonl", "b/a.txt.gz", "b/sub/é.csv", "b/z.txt"]


def test_hidden_files_and_files_of_unknown_kind_in_a_folder_are_skipped_and_named(folder):
    hidden, unknown = find_sources(["b"]).skipped
    assert hidden == "b/.hidden.txt: hidden"
    assert unknown.startswith("b/note.md: unknown kind of file; give .txt, .jsonl, .csv, .tsv (plain, .gz")


def test_a_glob_matches_files_and_folders_by_the_bytes_of_the_paths(folder):
    assert names("b*") == ["b-c.txt", "b/A.jsonl", "b/a.txt.gz", "b/sub/é.csv", "b/z.txt"]
    assert names("**/*.txt") == ["b-c.txt", "b/z.txt"]
    assert names(f"{folder}/b/*.txt") == [f"{folder}/b/z.txt"]


def test_a_file_with_the_characters_of_a_glob_in_its_name_is_that_file(folder):
    (folder / "a[1].txt").write_text("x")
    assert names("a[1].txt") == ["a[1].txt"]


def test_a_file_that_is_named_twice_is_taken_once_at_its_first_place(folder):
    (folder / "link.txt").symlink_to(folder / "b" / "z.txt")
    assert names("b/z.txt", "b", f"{folder}/b-c.txt", "b-c.txt", "link.txt") == [
        "b/z.txt",
        "b/A.jsonl",
        "b/a.txt.gz",
        "b/sub/é.csv",
        f"{folder}/b-c.txt",
    ]


def test_links_to_folders_are_followed_and_never_for_ever(folder):
    (folder / "b" / "sub" / "up").symlink_to(folder / "b")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "x.txt").write_text("x")
    (folder / "b" / "more").symlink_to(folder / "elsewhere")
    assert names("b") == ["b/A.jsonl", "b/a.txt.gz", "b/more/x.txt", "b/sub/é.csv", "b/z.txt"]


def test_documents_are_named_after_the_path_below_the_folder_that_was_named(folder):
    assert [source.label for source in find_sources([str(folder / "b")]).sources] == [
        "A.jsonl",
        "a.txt.gz",
        "sub/é.csv",
        "z.txt",
    ]
    assert [source.label for source in find_sources([f"{folder}/b/**/*.csv"]).sources] == ["sub/é.csv"]
    assert [source.label for source in find_sources(["b/sub/é.csv"]).sources] == ["é.csv"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "missing.txt: no such file; check the path"),
        ("*.parquet", "*.parquet: matches no file; check the pattern"),
        ("b/note.md", "b/note.md: unknown kind of file; give .txt, .jsonl"),
        ("empty", "empty: no file that can be read; give .txt, .jsonl"),
        ("b/note*", "b/note*: no file that can be read; give .txt, .jsonl"),
        ("array.json", "array.json: not JSON Lines; write one object a line, for example with jq -c '.[]'"),
        ("a.parquet.gz", "a.parquet.gz: unknown kind of file"),
        ("hub:", "hub:: not a hub name; write hub:OWNER/NAME[:CONFIG][@REVISION]"),
    ],
)
def test_a_name_that_stands_for_nothing_is_a_mistake(folder, name, message):
    (folder / "empty").mkdir()
    (folder / "array.json").write_text('[\n{"text": "x"}\n]')
    (folder / "a.parquet.gz").write_text("x")
    with pytest.raises(UserError) as error:
        find_sources(["b-c.txt", name])
    assert str(error.value).startswith(message)
    assert len(str(error.value).splitlines()) == 1


def test_no_names_are_a_mistake():
    with pytest.raises(UserError, match="no input"):
        find_sources([])


def test_a_json_file_is_taken_if_it_holds_lines(folder):
    (folder / "a.json").write_text('{"text": "One."}\n{"text": "Two."}\n')
    (source,) = find_sources(["a.json"]).sources
    assert [document.text for document in read_source(source)] == ["One.", "Two."]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX systems alone")
def test_a_file_whose_name_is_not_utf8_is_skipped_in_a_folder(folder):
    (folder / "b" / os.fsdecode(b"\xff.txt")).write_text("x")
    assert any("its name is not UTF-8; rename it" in note for note in find_sources(["b"]).skipped)


def test_a_source_survives_json_and_other_processes(folder):
    for source in find_sources(["b"]).sources:
        assert Source.model_validate_json(source.model_dump_json()) == source
        assert pickle.loads(pickle.dumps(source)) == source


def test_the_identity_of_a_source_is_its_name_size_and_hash(folder):
    (folder / "abc.txt").write_text("abc")
    identity = source_identity(find_sources(["abc.txt"]).sources[0])
    assert (identity.path, identity.bytes) == ("abc.txt", 3)
    assert identity.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def _texts(*given):
    return [item.text for source in find_sources(given).sources for item in read_source(source)]


def _dataset(*texts):
    return datasets.Dataset.from_dict({"text": list(texts)})


def test_a_saved_data_set_is_read_in_the_order_of_its_state_file(folder):
    _dataset("One.", "Two.", "Three.").save_to_disk("saved/one", num_shards=3)
    state = json.loads((folder / "saved/one/state.json").read_text())
    state["_data_files"].reverse()
    (folder / "saved/one/state.json").write_text(json.dumps(state))
    assert _texts("saved/one") == _texts("saved") == ["Three.", "Two.", "One."]


def test_of_saved_splits_the_training_split_is_read_and_the_others_are_named(folder):
    splits = datasets.DatasetDict(train=_dataset("One."), validation=_dataset("Two."))
    splits.save_to_disk("saved")
    assert _texts("saved") == ["One."]
    assert _texts("saved/validation") == ["Two."]
    (note,) = find_sources(["saved"]).skipped
    assert note.endswith(".arrow: not of split train; to read it, name its folder")


def test_a_saved_data_set_that_lacks_a_file_is_a_mistake(folder):
    _dataset("One.").save_to_disk("saved")
    next((folder / "saved").glob("*.arrow")).unlink()
    with pytest.raises(UserError, match=r"lists it; save the data set again"):
        find_sources(["saved"])


def test_a_state_file_of_another_program_is_a_file_like_others(folder):
    (folder / "b" / "state.json").write_text('{"step": 3}\n')
    assert "b/state.json" in names("b")


def test_a_repository_of_a_data_set_is_a_folder_of_files(folder):
    (folder / "repository" / "data").mkdir(parents=True)
    _dataset("One.").to_parquet("repository/data/train-00000-of-00001.parquet")
    (folder / "repository" / "dataset_infos.json").write_text("{}")
    (folder / "repository" / "README.md").write_text("# Data")
    assert _texts("repository") == ["One."]


def test_a_local_copy_of_a_hub_data_set_is_read_like_one(folder):
    (folder / "copy").mkdir()
    _dataset("One.", "Two.").to_parquet("copy/train.parquet")
    _dataset("Three.").to_parquet("copy/test.parquet")
    (source,) = find_sources(["hub:copy"]).sources
    assert list(read_source(source)) == [Document("copy:1", "One."), Document("copy:2", "Two.")]
    assert source_identity(source) == source_identity(source)
    assert source_identity(source).path == "hub:copy"


def test_a_local_copy_that_holds_no_data_is_a_mistake_when_it_is_read(folder):
    (folder / "copy").mkdir()
    (source,) = find_sources(["hub:copy"]).sources
    with pytest.raises(UserError, match="hub:copy: cannot be read"):
        list(read_source(source))


def test_a_hub_name_without_a_network_is_a_mistake_in_one_line(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hub:no-owner/no-name: not found on the hub") as error:
        find_sources(["hub:no-owner/no-name"])
    assert len(str(error.value).splitlines()) == 1

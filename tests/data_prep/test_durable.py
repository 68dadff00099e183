"""Output folders appear complete or not at all."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from data_prep.durable import complete_folder, sha256_folder, write_durably
from data_prep.errors import UserError


def write_shards(out):
    with complete_folder(out, "--out") as folder:
        (folder / "train").mkdir()
        (folder / "train" / "shard").write_text("rows")
        assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize("name", ["shards", "new/folders/shards", "empty"])
def test_a_folder_takes_its_name_when_it_is_complete(tmp_path, name):
    (tmp_path / "empty").mkdir()
    write_shards(tmp_path / name)
    assert (tmp_path / name / "train" / "shard").read_text() == "rows"
    assert not list(tmp_path.rglob("*partial*"))


def test_the_folder_that_one_stands_in_can_be_filled(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_shards(type(tmp_path)("."))
    assert (tmp_path / "here" / "train" / "shard").read_text() == "rows"


@pytest.mark.parametrize("failure", [ValueError, UserError, KeyboardInterrupt])
def test_a_failure_leaves_nothing_behind(tmp_path, failure):
    with pytest.raises(failure), complete_folder(tmp_path / "shards", "--out") as folder:
        (folder / "shard").write_text("rows")
        raise failure("in the middle")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused_and_stays_as_it_was(tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(UserError, match="already holds files; give --out another folder"):
        write_shards(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_is_refused_as_an_output_folder(tmp_path):
    (tmp_path / "file").write_text("data")
    with pytest.raises(UserError, match="is a file; --out names a folder"):
        write_shards(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "data"


def test_a_small_file_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        write_durably(tmp_path / "file", content)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "new")]


def test_a_small_file_may_be_written_by_many_at_once(tmp_path):
    path, contents = tmp_path / "file", [letter * 100_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(write_durably, path, content) for content in contents * 10]:
            written.result()
    assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "folder" / "occupied").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        write_durably(tmp_path / "folder", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_hash_of_a_folder_changes_with_a_name_or_a_byte(tmp_path):
    hashes = set()
    for name, content in (("a", "x"), ("a", "y"), ("b", "y")):
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / name).write_text(content)
        hashes |= {sha256_folder(tmp_path), sha256_folder(tmp_path)}
    assert len(hashes) == 3

"""The same command once more: what it goes on with, and what it refuses."""

import os
import signal

import pytest

from data_prep.errors import UserError
from data_prep.passes.job import Settings
from data_prep.passes.prepare import begin
from data_prep.passes.reading import ReadingPass
from data_prep.tagging.tag_map import load_tag_map
from tests.data_prep.conftest import SETTINGS, prepare_files, write_corpus
from tests.data_prep.passes.test_scale_out import children, start, wait_until


@pytest.fixture
def folder(documents, tmp_path):
    """An input folder."""
    (tmp_path / "corpus").mkdir()
    write_corpus(tmp_path / "corpus" / "a.jsonl", documents[:25])
    return tmp_path / "corpus"


def names_of_sources(inputs, out):
    begun = begin([str(item) for item in inputs], out, SETTINGS, None)
    return [source.file.name for source in begun.job.fingerprint.sources]


def test_the_shards_and_logs_of_a_preparation_are_not_its_input(folder):
    """`data_prep text '*.jsonl' --out shards` in the folder of the corpus, stopped and started again."""
    out = folder / "shards"
    inputs = [folder, folder / "*.jsonl"]
    assert names_of_sources(inputs, out) == ["a.jsonl"]
    for name in ("shards.log.jsonl", "shards.part-0-of-4.log.jsonl", "shards.merge.log.jsonl"):
        (folder / name).write_text('{"stage": "reading"}\n')
    (out / "train" / "verb").mkdir(parents=True)
    (out / "train" / "verb" / "shard-00000.arrow").write_bytes(b"\0")
    (out / "dropped.jsonl").write_text("")
    assert names_of_sources(inputs, out) == ["a.jsonl"]


def test_files_that_are_merely_called_alike_are_input(folder):
    for name in ("shards.jsonl", "shards.log.jsonl.txt", "myshards.log.jsonl"):
        (folder / name).write_text("{}\n")
    assert len(names_of_sources([folder], folder / "shards")) == 4


def test_an_output_folder_that_holds_the_input_is_refused(folder):
    with pytest.raises(UserError, match="--out holds all the input; give another folder"):
        names_of_sources([folder], folder)


def test_finished_shards_with_another_order_of_tasks_or_another_tokenizer_are_refused(
    folder, documents, tokenizer_file, tmp_path
):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_bytes(tokenizer_file.read_bytes())
    tasks = load_tag_map().tasks
    tag_map = tmp_path / "tags.yaml"

    def write_tag_map(names):
        own = "".join(f"  {name}: {list(tasks[name])}\n" for name in names)
        tag_map.write_text(f"attribute: tag\ntasks:\n{own}")

    write_tag_map(tasks)
    settings = {"tokenizer": str(tokenizer)}
    prepare_files([folder / "a.jsonl"], tmp_path / "out", tag_map, **settings)

    def again():
        begin(
            [str(folder / "a.jsonl")],
            tmp_path / "out",
            Settings.model_validate(SETTINGS.model_dump() | settings),
            tag_map,
        )

    again()
    write_tag_map(reversed(tasks))
    with pytest.raises(UserError, match="already holds shards, of other input or settings"):
        again()
    write_tag_map(tasks)
    limit = '"max_input_chars_per_word": '
    tokenizer.write_text(tokenizer.read_text().replace(f"{limit}100", f"{limit}99"))
    with pytest.raises(UserError, match="already holds shards, of other input or settings"):
        again()


def test_a_reader_that_another_one_overtakes_makes_the_same_chunks(folder, tmp_path, monkeypatch):
    """As on a file system without locks."""
    settings = Settings.model_validate(SETTINGS.model_dump() | {"block_size": 5_000})
    job = begin([str(folder)], tmp_path / "out", settings, None).job
    reading = ReadingPass(job)
    reading.worker()(0, lambda counts: None)
    expected = {path: path.read_bytes() for path in reading.chunk_paths(0)}
    assert len(expected) > 4
    for path in list(expected)[1:]:
        path.unlink()
    write = ReadingPass._write

    def write_and_be_overtaken(self, *arguments):
        write(self, *arguments)
        for path, content in expected.items():
            if not path.exists():
                path.write_bytes(content)

    monkeypatch.setattr(ReadingPass, "_write", write_and_be_overtaken)
    reading.worker()(0, lambda counts: None)
    assert {path: path.read_bytes() for path in reading.chunk_paths(0)} == expected


@pytest.mark.parametrize("moment", [1, 2, "blocks"])
def test_ctrl_c_stops_all_workers_without_a_traceback(folder, tmp_path, moment):
    out = tmp_path / "shards"
    write_corpus(folder / "b.jsonl", [])
    process = start(["text", str(folder), "--out", str(out), "--num-workers", "2", "--block-size", "20000"])

    def has_come_so_far():
        if moment == "blocks":
            return any((out / ".work" / "blocks").glob("*.arrow"))
        return len(children(process.pid)) >= moment  # Python's resource tracker, the workers' server

    wait_until(lambda: has_come_so_far() or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Error" not in output


def test_a_file_that_grew_since_the_preparation_began_is_refused(folder, tmp_path):
    job = begin([str(folder)], tmp_path / "out", SETTINGS, None).job
    with (folder / "a.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(UserError, match=r"a\.jsonl: has .* bytes now, it had .* when its preparation began"):
        ReadingPass(job).worker()(0, lambda counts: None)

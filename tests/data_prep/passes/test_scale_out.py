"""Any number of workers and parts, killed whenever: the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep.passes.work import claim
from tests.data_prep.conftest import write_corpus

KILL_AT = Path(__file__).with_name("kill_at.py")
OPTIONS = ["--sequence-length", "32", "--block-size", "20000", "--test-share", "0.1", "--shard-rows", "150"]


@pytest.fixture(scope="module")
def corpus(documents, tmp_path_factory):
    """Sixty documents in two files, each of several blocks."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder / "a.jsonl", documents[:25])
    write_corpus(folder / "b.jsonl", documents[25:])
    return folder


@pytest.fixture(scope="module")
def command(corpus, tokenizer_file):
    """A function that gives the arguments that prepare the corpus in a folder."""
    return lambda out, *more: [
        *("text", str(corpus), "--out", str(out), "--tokenizer", str(tokenizer_file)),
        *(*OPTIONS, *more),
    ]


@pytest.fixture(scope="module")
def expected(command, tmp_path_factory):
    """What one worker makes without a break."""
    out = tmp_path_factory.mktemp("expected") / "shards"
    run(command(out))
    return contents(out)


def start(arguments, *prefix):
    program = prefix or ("-m", "data_prep")
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(arguments, *prefix):
    process = start(arguments, *prefix)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_corpus_makes_many_blocks_and_shards(expected):
    assert sum(name.startswith("train/verb/") for name in expected) >= 2


@pytest.mark.parametrize("num_workers", [2, 3])
def test_workers_make_the_bytes_of_one(command, expected, tmp_path, num_workers):
    run(command(tmp_path / "shards", "--num-workers", str(num_workers)))
    assert contents(tmp_path / "shards") == expected


def test_four_parts_one_after_the_other_in_any_order_make_the_bytes_of_one(command, expected, tmp_path):
    out = tmp_path / "shards"
    for part in (2, 0, 3, 1):
        said = run(command(out, "--part", str(part), "--num-parts", "4"))
        assert f"when all are: data_prep merge {out}" in said
        assert not (out / "manifest.json").exists()
    run(["merge", str(out)])
    assert contents(out) == expected


def test_parts_at_the_same_time_and_one_of_them_twice_make_the_bytes_of_one(command, expected, tmp_path):
    out = tmp_path / "shards"
    parts = [start(command(out, "--part", part, "--num-parts", "2")) for part in ("0", "1", "1")]
    for process in parts:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    run(["merge", str(out), "--num-workers", "2"])
    assert contents(out) == expected


def test_two_jobs_that_do_everything_at_once_do_no_harm(command, expected, tmp_path):
    jobs = [start(command(tmp_path / "shards")) for _ in range(2)]
    for process in jobs:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert contents(tmp_path / "shards") == expected


KILLS = [
    ("data_prep.passes.reading._Chunk.write", 1),
    ("data_prep.passes.reading._Chunk.write", 3),
    ("data_prep.passes.planning.PlanningPass._write_tokenizer", 1),
    # while words are tagged
    ("data_prep.passes.blocks.encode_document", 3),
    ("data_prep.passes.blocks.encode_document", 9),
    ("data_prep.passes.blocks.encode_document", 14),
    ("data_prep.passes.blocks.encode_document", 20),
    ("data_prep.passes.blocks.encode_document", 1),
    ("data_prep.passes.blocks.record_batches", 1),
    ("file:000005.arrow", 1),
    # while task groups are assigned
    ("data_prep.passes.merging.LayoutPass._assign", 2),
    ("data_prep.passes.merging.LayoutPass._assign", 4),
    # while a shard or the manifest is written
    ("data_prep.passes.merging._write_table", 1),
    ("data_prep.passes.merging._write_table", 4),
    ("file:shard-00000.arrow", 3),
    ("file:shard-00001.arrow", 1),
    ("data_prep.passes.merging._write_table", 2),
    ("file:manifest.sha256", 1),
    ("file:manifest.json", 1),
    # when all is there, but not tidied up
    ("data_prep.passes.prepare.rmtree", 1),
]


@pytest.mark.slow
def test_twenty_kills_and_restarts_end_with_the_same_bytes(command, expected, tmp_path):
    out = tmp_path / "shards"
    for place, number in KILLS:
        process = start(command(out), str(KILL_AT), place, str(number))
        output, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, f"{place} was not reached: {output}"
        for path in out.glob("*/**/shard-*.arrow"):
            with pa.ipc.open_stream(path) as stream:
                stream.read_all()
    run(command(out))
    assert contents(out) == expected


def test_work_that_is_finished_is_not_done_again(command, expected, tmp_path):
    out = tmp_path / "shards"
    start(command(out), str(KILL_AT), "file:shard-00001.arrow", "1").communicate(timeout=300)
    finished = [path for path in out.rglob("*.arrow") if ".work/staging" not in str(path)]
    kept = {path: path.stat().st_mtime_ns for path in finished}
    started = [path for path in kept if "train" in path.parts]
    assert started
    process = start(command(out), str(KILL_AT), "file:manifest.json", "1")
    process.communicate(timeout=300)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_workers_die_with_their_parent_and_the_work_goes_on(command, expected, tmp_path):
    out = tmp_path / "shards"
    parent = start(command(out, "--num-workers", "2"))
    blocks = out / ".work" / "blocks"
    wait_until(lambda: any(blocks.glob("*.arrow")) or parent.poll() is not None)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=60)
    wait_until(lambda: not is_alive(parent.pid))
    run(command(out, "--num-workers", "2"))
    assert contents(out) == expected


def test_a_worker_that_is_killed_is_told_on_one_line(command, expected, tmp_path):
    out = tmp_path / "shards"
    parent = start(command(out, "--num-workers", "2"))
    wait_until(lambda: any((out / ".work" / "blocks").glob("*.arrow")))
    workers = [worker for server in children(parent.pid) for worker in children(server)]
    os.kill(workers[-1], signal.SIGKILL)
    output, _ = parent.communicate(timeout=60)
    assert parent.returncode == 2
    assert "died with signal 9; run the same command again, it goes on where it stopped" in output
    run(command(out))
    assert contents(out) == expected


def test_other_settings_or_input_do_not_go_on_with_a_begun_job(command, corpus, tmp_path):
    out = tmp_path / "shards"
    start(command(out), str(KILL_AT), "file:000001.arrow", "1").communicate(timeout=300)
    for change, told in [
        (["--seed", "7"], "begun with seed = 0, now it is 7"),
        (["--language", "en"], "begun with language = None, now it is en"),
        (["--sequence-length", "64"], "begun with sequence_length = 32, now it is 64"),
    ]:
        process = start(command(out, *change))
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert told in output


def test_merging_before_all_parts_are_done_is_refused(command, tmp_path):
    out = tmp_path / "shards"
    run(command(out, "--part", "0", "--num-parts", "4"))
    process = start(["merge", str(out)])
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "blocks are not prepared yet, by part 1, 2, 3 of 4; run data_prep text ... --part 1" in output
    assert len(output.splitlines()) == 1


def test_finished_shards_are_left_alone_and_shown_again(command, expected, tmp_path):
    out = tmp_path / "shards"
    run(command(out))
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for again in (command(out), command(out, "--part", "1", "--num-parts", "2"), ["merge", str(out)]):
        assert "interjection" in run(again)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == kept


def test_a_full_disk_is_told_on_one_line_and_keeps_what_is_finished(command, expected, tmp_path):
    """A limit on the size of files stands in for the end of the disk."""
    out = tmp_path / "shards"
    start(command(out), str(KILL_AT), "file:shard-00000.arrow", "1").communicate(timeout=300)
    limited = ["-c", LIMITED, str(20_000)]
    process = start(command(out), *limited)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be written (File too large); make room or mend the folder" in output
    assert len([line for line in output.splitlines() if line.startswith("data_prep: error")]) == 1
    run(command(out))
    assert contents(out) == expected


LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from data_prep.__main__ import main
main()
"""


def test_a_name_is_claimed_by_one_at_a_time_and_free_afterwards(tmp_path):
    with claim(tmp_path, "a") as first, claim(tmp_path, "a") as second, claim(tmp_path, "b") as other:
        assert (first, second, other) == (True, False, True)
    with claim(tmp_path, "a") as again:
        assert again


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_alive(session):
    """Whether a process of the session still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False

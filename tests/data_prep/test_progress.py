"""Progress for people and for machines."""

import json

from data_prep.progress import Monitor


def test_a_stage_leaves_a_line_at_its_beginning_and_end_with_counts_and_rate(tmp_path):
    log = tmp_path / "shards.log.jsonl"
    monitor = Monitor(log)
    with monitor.stage("reading", "words", None) as report:
        report({"words": 120, "dropped": 1})
        report({"words": 80, "documents": 3})
    with monitor.stage("tagging", "words", 200) as report:
        report({"words": 200})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["stage"], line["event"]) for line in lines] == [
        ("reading", "begin"),
        ("reading", "end"),
        ("tagging", "begin"),
        ("tagging", "end"),
    ]
    assert {key: lines[1][key] for key in ("words", "dropped", "documents")} == {
        "words": 200,
        "dropped": 1,
        "documents": 3,
    }
    assert lines[2]["total_words"] == 200
    assert lines[3]["words_per_s"] > 0
    assert all({"time", "elapsed_s"} <= set(line) for line in lines)


def test_a_second_run_adds_to_the_log_of_the_first(tmp_path):
    for _ in range(2):
        with Monitor(tmp_path / "log.jsonl").stage("merging", "", None):
            pass
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4


def test_without_a_log_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Monitor().stage("reading", "words", None) as report:
        report({"words": 1})
    assert list(tmp_path.iterdir()) == []

"""The last lines of a run's records, without the ones before."""

import json

import pytest

from pipeline.engine.records import METRICS, newest_records


@pytest.fixture
def path(tmp_path):
    """1,000 lines of half a kilobyte, and one that is being written."""
    lines = [json.dumps({"step": step, "padding": "x" * 500}) + "\n" for step in range(1_000)]
    (tmp_path / METRICS).write_text("".join(lines) + '{"step": 1000, "half-wr')
    return tmp_path / METRICS


# A block that is read from the end holds 125 of them and a part of another.
@pytest.mark.parametrize("num_lines", [1, 124, 125, 126, 127, 300, 1_000])
def test_they_are_the_last_complete_ones_in_their_order(path, num_lines):
    assert [record["step"] for record in newest_records(path, num_lines)] == list(
        range(1_000 - num_lines, 1_000)
    )


def test_there_may_be_fewer_or_no_file(path):
    assert len(newest_records(path, 5_000)) == 1_000
    assert newest_records(path.with_name("none"), 3) == []

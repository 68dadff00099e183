"""The benchmark of layers that run again and of compiled ones, run as a user runs it, on a tiny model."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
TINY = shlex.split("--rounds 2 --model tiny --batch 4 --length 48")


@pytest.mark.slow
def test_it_prints_memory_and_time_of_each_variant(shards, tmp_path):
    figures = tmp_path / "figures.json"
    command = [sys.executable, BENCH / "layers.py", *TINY, "--shards", shards, "--json", figures]
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(figures.read_text())
    assert list(found) == ["as they are", "1 of 2 run again", "all run again", "compiled"]
    for name, measured in found.items():
        assert name in ended.stdout
        assert measured["time_ratios"]
    assert found["all run again"]["losses"] == found["as they are"]["losses"]

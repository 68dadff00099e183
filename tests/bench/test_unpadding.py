"""The benchmark of unpadding, run as a user runs it, on a tiny model."""

import shlex
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"
TINY = shlex.split("--rounds 2 --size tiny --batch 4 --length 48")
AT_PADDED_PLACES = f"""
import sys
sys.path.insert(0, {str(BENCH)!r})
import unpadding
from pipeline.models import attention
attention.Pieces.places_of = lambda self, places: places.clamp(max=len(self.positions) - 1)
sys.exit(unpadding.main(sys.argv[1:]))
"""


def run(shards, *command):
    return subprocess.run(
        [sys.executable, *map(str, command), *TINY, "--shards", str(shards)], capture_output=True, text=True
    )


def test_it_prints_both_speeds_and_the_share_of_padding(shards):
    ended = run(shards, BENCH / "unpadding.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for word in ("padded", "unpadded", "tokens/s", "Padding:"):
        assert word in ended.stdout


def test_losses_that_differ_are_named_and_end_with_1(shards):
    ended = run(shards, "-c", AT_PADDED_PLACES)
    assert ended.returncode == 1
    assert "Wrong result: " in ended.stdout

"""Memory does not grow with the size of a document."""

import json
import subprocess
import sys

import pytest

MEGABYTES = 100
READ = """
import resource, sys
from data_prep.corpus.formats import read_source
from data_prep.corpus.inputs import find_sources

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

(source,) = find_sources([sys.argv[1]]).sources
before = peak()
characters = sum(len(part.text) for part in read_source(source))
print(characters, peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_line_of_100_mb_is_read_within_80_mb(tmp_path, name):
    sentence = "No man is an island, entire of itself; “every man” is a piece. "
    text = sentence * (MEGABYTES * 1_000_000 // len(sentence.encode()))
    path = tmp_path / name
    path.write_text(text if name == "a.txt" else json.dumps({"text": text, "id": 1}, ensure_ascii=False))
    assert path.stat().st_size > 0.99e6 * MEGABYTES
    command = [sys.executable, "-c", READ, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    characters, grown = map(int, result.stdout.split())
    assert characters > 0.99 * len(text)
    assert grown < 80

"""Run data_prep until a chosen call, and die there as by `kill -9`.

python kill_at.py data_prep.passes.blocks.encode_document 5 text ...   in the fifth call of a function
python kill_at.py file:manifest.json 1 text ...                   when such a file is about to appear
"""

import importlib
import os
import signal
import sys

import data_prep.durable
from data_prep.__main__ import main


def _die_in(owner, name, number, concerns):
    original, calls = getattr(owner, name), 0

    def deadly(*arguments, **named):
        nonlocal calls
        calls += concerns(arguments)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, deadly)


def _owner_of(place):
    parts = place.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:-1]:
            owner = getattr(owner, part)
        return owner, parts[-1]
    raise ValueError(place)


place, number = sys.argv[1], int(sys.argv[2])
if place.startswith("file:"):
    prefix = place.removeprefix("file:")
    _die_in(data_prep.durable, "fsync_path", number, lambda arguments: arguments[0].name.startswith(prefix))
else:
    _die_in(*_owner_of(place), number, lambda arguments: True)
sys.argv = ["data_prep", *sys.argv[3:]]
main()

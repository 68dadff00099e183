"""Run pipeline until a chosen rank makes a chosen call, and let that rank die there as by `kill -9`.

RANK=1 python kill_rank_at.py 1 pipeline.engine.checkpoint:write_state 2 pretrain …   in its second call
"""

import importlib
import os
import signal
import sys

from pipeline.__main__ import main


def _owner_of(place):
    module, _, rest = place.partition(":")
    owner = importlib.import_module(module)
    *path, name = rest.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name


def _die_in(place, number):
    owner, name = _owner_of(place)
    original, calls = getattr(owner, name), 0

    def deadly(*arguments, **named):
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    rank, place, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if os.environ["RANK"] == rank:
        _die_in(place, number)
    sys.argv = ["pipeline", *sys.argv[4:]]
    main()

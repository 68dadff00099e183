"""Naming the rank that is gone or stuck, where the others would only say that a connection broke."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from pipeline.engine.launch import Place
from pipeline.engine.records import Records

_GRACE_S = 3.0
"""In which the ranks that are well have noticed, too."""
_STORE_ANSWERS_WITHIN = timedelta(seconds=5)
_SIGNS = ("gloo", "NCCL", "Connection", "timeout", "Timed out")


@dataclass(frozen=True)
class LostRank:
    """A rank that does not answer, its host, and the step that it is in, counted from 1, since so long."""

    rank: int
    host: str
    step: int
    seconds: float | None
    """None where it is not known."""

    def __str__(self) -> str:
        since = "" if self.seconds is None else f", in step {self.step} since {self.seconds:.0f} s"
        return f"rank {self.rank} on {self.host} is gone or stuck{since}"


class Peers:
    """The other ranks, as seen from this one: each tells the store which step it is at.

    Args:
        place: this rank.
        failures: file of JSON lines that a loss is added to, for who starts the job again.
    """

    def __init__(self, place: Place, failures: Path) -> None:
        self._place = place
        self._failures = failures
        # torch has no public name for the store that the ranks met at.
        store = dist.distributed_c10d._get_default_store() if place.world_size > 1 else None
        self._store: Any = PrefixStore("peers", store) if store else None
        self._step = 0
        if self._store:
            self._store.set(f"host/{place.rank}", os.environ.get("SLURMD_NODENAME", socket.gethostname()))
            self._host_of_store = self._store.get("host/0").decode()

    def at(self, step: int) -> None:
        """This rank begins step `step`, counted from 0."""
        self._step = step
        if self._store:
            self._store.set(f"step/{self._place.rank}", f"{step} {time.time()}")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A loss of contact inside the block becomes one line that names who is missing, and exit code 1."""
        try:
            yield
        except RuntimeError as error:
            if not self._store or not _is_loss_of_contact(error):
                raise
            place = f"rank {self._place.rank}, step {self._step + 1}"
            advice = "the same command goes on from the newest checkpoint"
            lost = self._find_lost()
            print(f"pipeline: error: {place}: {', '.join(map(str, lost))}; {advice}", file=sys.stderr)
            self._write_down(lost)
            raise SystemExit(1) from error

    def _find_lost(self) -> list[LostRank]:
        """Who does not answer, of those that are the furthest behind."""
        others = [rank for rank in range(self._place.world_size) if rank != self._place.rank]
        store = self._store
        try:
            store.set_timeout(_STORE_ANSWERS_WITHIN)
            store.set(f"well/{self._place.rank}", "")
            time.sleep(_GRACE_S)
            silent = [rank for rank in others if not store.check([f"well/{rank}"])] or others
            lost = [self._last_word(store, rank) for rank in silent]
        except RuntimeError:  # of the store, which rank 0 keeps
            return [LostRank(0, self._host_of_store, self._step + 1, None)]
        slowest = min(rank.step for rank in lost)
        return [rank for rank in lost if rank.step == slowest]

    def _last_word(self, store: Any, rank: int) -> LostRank:
        host = store.get(f"host/{rank}").decode()
        if not store.check([f"step/{rank}"]):
            return LostRank(rank, host, 0, None)
        step, moment = store.get(f"step/{rank}").decode().split()
        return LostRank(rank, host, int(step) + 1, time.time() - float(moment))

    def _write_down(self, lost: list[LostRank]) -> None:
        """Add the loss to the file, a line from each rank that is left."""
        record = {
            "time": time.time(),
            "rank": self._place.rank,
            "step": self._step + 1,
            "lost": [asdict(rank) for rank in lost],
        }
        with suppress(OSError):  # the loss is on the screen
            Records(self._failures).append(record)


def _is_loss_of_contact(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in _SIGNS)

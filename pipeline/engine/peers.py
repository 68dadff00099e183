"""Naming the rank that is gone or stuck, where the others would only say that a connection broke."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from pipeline.engine.launch import Place

_GRACE_S = 3.0
"""In which the ranks that are well have noticed, too."""
_STORE_ANSWERS_WITHIN = timedelta(seconds=5)
_SIGNS = ("gloo", "NCCL", "Connection", "timeout", "Timed out")


class Peers:
    """The other ranks, as seen from this one: each tells the store which step it is at."""

    def __init__(self, place: Place) -> None:
        self._place = place
        # torch has no public name for the store that the ranks met at.
        store = dist.distributed_c10d._get_default_store() if place.world_size > 1 else None
        self._store: Any = PrefixStore("peers", store) if store else None
        self._step = 0

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
            print(f"pipeline: error: {place}: {self._missing(self._store)}; {advice}", file=sys.stderr)
            raise SystemExit(1) from error

    def _missing(self, store: Any) -> str:
        others = [rank for rank in range(self._place.world_size) if rank != self._place.rank]
        try:
            store.set_timeout(_STORE_ANSWERS_WITHIN)
            store.set(f"well/{self._place.rank}", "")
            time.sleep(_GRACE_S)
            silent = [rank for rank in others if not store.check([f"well/{rank}"])] or others
            last = {rank: self._last_word(store, rank) for rank in silent}
        except RuntimeError:  # of the store, which rank 0 keeps
            return "rank 0 is gone or stuck"
        slowest = min(step for step, _ in last.values())
        named = [
            f"rank {rank} is gone or stuck, in step {step + 1} since {seconds:.0f} s"
            for rank, (step, seconds) in last.items()
            if step == slowest
        ]
        return ", ".join(named)

    def _last_word(self, store: Any, rank: int) -> tuple[int, float]:
        if not store.check([f"step/{rank}"]):
            return -1, 0.0
        step, moment = store.get(f"step/{rank}").decode().split()
        return int(step), time.time() - float(moment)


def _is_loss_of_contact(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in _SIGNS)

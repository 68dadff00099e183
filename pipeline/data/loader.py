"""Micro-batches made ahead by worker processes, so that the engine need not wait for them."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from data_prep.errors import UserError, is_first_of_node, one_line
from pipeline.data.interface import MicroBatch, TrainData
from pipeline.data.packing import PackedMicroBatches
from pipeline.data.read_ahead import ReadAhead

_STEPS_PER_WORKER = 2
"""Steps that a worker has made, or is making, before they are asked for."""
_FOR_THE_RUN_ALONE = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
"""Ctrl-C and SLURM reach all processes of a job. The run answers them, and may need its workers to do so."""


class MicroBatchLoader:
    """A rank's micro-batches, asked for in the order of its steps.

    Inside `ahead` workers make them before they are asked for. Outside it, or with no workers, they are made
    when they are asked for; the result is the same. Micro-batch m belongs to rank m mod W.

    Args:
        data: what makes micro-batches; workers get a pickled copy.
        num_workers: processes.
        num_micro_batches: of a step, over all ranks.
        rank: this rank.
        world_size: number of ranks W.
        pin_memory: whether to put what workers made into page-locked memory, for copies to a GPU.
    """

    def __init__(
        self,
        data: TrainData,
        num_workers: int,
        num_micro_batches: int,
        rank: int,
        world_size: int,
        *,
        pin_memory: bool,
    ) -> None:
        self._data = data
        self._num_workers = num_workers
        self._rank = rank
        self._indices = range(rank, num_micro_batches, world_size)
        self._pin_memory = pin_memory
        self._steps: ReadAhead[tuple[int, Any]] | None = None
        self._at_hand: dict[tuple[int, int], MicroBatch] = {}
        self._workers: list[Any] = []
        self._wait_s = 0.0

    @contextmanager
    def ahead(self, first_step: int, last_step: int) -> Iterator[None]:
        """Workers serve the steps from `first_step` up to `last_step` − 1; they end with the block."""
        if not self._num_workers or not self._indices:
            yield
            return
        try:
            self._start(range(first_step, last_step))
            yield
        finally:
            self._stop()

    def micro_batch(self, step: int, index: int) -> MicroBatch:
        """Micro-batch `index` of step `step`.

        Raises:
            UserError: a worker died. What fails in a worker is raised here, too.
        """
        started = time.perf_counter()
        try:
            if self._steps is None:
                return self._data.micro_batch(step, index)
            if not self._at_hand:
                self._at_hand = self._next_step(self._steps)
            return self._at_hand.pop((step, index))
        except (UserError, OSError) as error:
            if not is_first_of_node():  # which would tell it, if it knew
                print(f"pipeline: error: rank {self._rank}: {one_line(error)}", file=sys.stderr)
            raise
        finally:
            self._wait_s += time.perf_counter() - started

    def empty_micro_batch(self) -> MicroBatch:
        """A batch without a label, for a rank that has none in the last round."""
        return self._data.empty_micro_batch()

    def take_wait_s(self) -> float:
        """Seconds spent in `micro_batch` since the last call."""
        wait_s, self._wait_s = self._wait_s, 0.0
        return wait_s

    def _start(self, steps: range) -> None:
        # A process forked from this one would inherit CUDA, and threads and locks of DeepSpeed and gloo, in
        # any state; spawned ones would import torch each. A server that has none of that imports once and
        # forks the workers: four were at work after 4 s and not 13, with 84 MB of their own and not 190.
        _start_server(type(self._data).__module__)
        loader = DataLoader(
            _Steps(self._data, self._indices),
            batch_size=None,
            sampler=steps,
            num_workers=self._num_workers,
            collate_fn=_as_it_is,
            prefetch_factor=_STEPS_PER_WORKER,
            pin_memory=self._pin_memory,
            worker_init_fn=_set_up_worker,
            multiprocessing_context="forkserver",
            generator=torch.Generator(),  # by default it draws from the one that decides initialisation
        )
        before = multiprocessing.active_children()
        try:
            # Fetching a tensor from a busy worker takes several turns of both processes: not in a step.
            self._steps = ReadAhead(iter(loader))
        finally:
            self._workers = [child for child in multiprocessing.active_children() if child not in before]

    def _next_step(self, steps: ReadAhead[tuple[int, Any]]) -> dict[tuple[int, int], MicroBatch]:
        try:
            step, made = next(steps)
        except (RuntimeError, OSError, EOFError) as error:
            raise self._death() or error from error
        if isinstance(made, Exception):
            raise made
        return {(step, index): batch for index, batch in made.unpacked().items()}

    def _death(self) -> UserError | None:
        """How a worker died, if one did."""
        wait([worker.sentinel for worker in self._workers], timeout=1)  # the news may take a moment
        codes = [worker.exitcode for worker in self._workers if worker.exitcode is not None]
        if not codes:
            return None
        how = f"signal {-codes[0]}" if codes[0] < 0 else f"exit code {codes[0]}"
        return UserError(
            f"data loader: a worker process died with {how}; run the same command again, it goes on from its "
            "newest checkpoint (with data.num_workers=0 if memory or /dev/shm ran out)"
        )

    def _stop(self) -> None:
        if self._steps is not None:
            self._steps.close()
        for worker in self._workers:
            worker.kill()  # nothing is lost: they only read
            worker.join()
        self._steps, self._at_hand, self._workers = None, {}, []


class _Steps(Dataset[tuple[int, Any]]):
    """A rank's micro-batches by step, in a worker. What fails there is a result, too."""

    def __init__(self, data: TrainData, indices: range) -> None:
        self._pickled = pickle.dumps(data)  # opened where errors are caught
        self._indices = indices
        self._data: TrainData | None = None

    def __getitem__(self, step: int) -> tuple[int, PackedMicroBatches | Exception]:
        try:
            if self._data is None:
                self._data = pickle.loads(self._pickled)  # noqa: S301 - made above
            batches = {index: self._data.micro_batch(step, index) for index in self._indices}
            return step, PackedMicroBatches.of(batches)
        except (UserError, OSError) as error:
            return step, error
        except Exception as error:
            return step, RuntimeError(f"{error}\n{traceback.format_exc()}")


def _as_it_is(made: Any) -> Any:
    return made


def _start_server(module: str) -> None:
    """Start the process that imports `module` and forks workers, and the one that counts what they share.

    All are deaf to what only the run answers, and SLURM sends to every process.
    """
    forkserver.set_forkserver_preload([module])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_RUN_ALONE)
    try:
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_RUN_ALONE)  # of which that lifts a part
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _set_up_worker(worker: int) -> None:
    threading.Thread(target=_die_with_run, daemon=True).start()


def _die_with_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)

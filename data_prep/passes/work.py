"""Tasks of a pass, shared by any number of processes through the file system alone.

The result of a task is one file, which appears under its name when it is complete, and every process that
does the task writes the same bytes. So a lock only saves doing things twice: the kernel drops it when its
holder dies, and where a file system knows no locks, nothing goes wrong.
"""

import fcntl
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, ClassVar

from data_prep.errors import UserError

_POLL_SECONDS = 0.5
_PRELOADED = "data_prep.passes.blocks"
"""Imports what takes longest: spaCy."""

Report = Callable[[dict[str, int]], None]
"""Takes what was done since the last call, such as {"words": 120}."""
Worker = Callable[[int, Report], None]
"""Does a task, given its number."""


class Pass(ABC):
    """Independent tasks, known by number. It travels to other processes, so it holds no heavy objects."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where the results are."""

    @abstractmethod
    def is_done(self, task: int) -> bool:
        """Whether the result of a task is on disk."""

    @abstractmethod
    def worker(self) -> Worker:
        """What does the tasks in this process, set up once."""


def do_tasks(work: Pass, tasks: Sequence[int], num_workers: int, report: Report) -> None:
    """Return when the results of all `tasks` are on disk, whoever made them.

    Raises:
        UserError: a task failed so, or a worker process died.
    """
    pending = [task for task in tasks if not work.is_done(task)]
    num_workers = min(num_workers, len(pending))
    if num_workers <= 1:
        _do_all(work, pending, report)
    else:
        _Pool(work, pending, num_workers).run(report)


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process alone now has `name`; another one that tries meanwhile gets False."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("ab") as file:  # the lock goes when it is closed, whatever happens
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        except OSError:  # a file system without locks
            mine = True
        else:
            mine = True
        yield mine


def _do_all(work: Pass, tasks: Sequence[int], report: Report) -> None:
    worker: Worker | None = None
    remaining = list(tasks)
    while remaining:
        left = []
        for task in remaining:
            if work.is_done(task):
                continue
            with claim(work.folder / "locks", str(task)) as mine:
                if not mine:
                    left.append(task)
                elif not work.is_done(task):
                    worker = worker or work.worker()
                    worker(task, report)
        if len(left) == len(remaining):
            time.sleep(_POLL_SECONDS)
        remaining = left


class _Pool:
    """Processes that each go through all tasks and do those that no other one does."""

    def __init__(self, work: Pass, tasks: Sequence[int], num_workers: int) -> None:
        # A process forked from this one would inherit threads and locks of numerical libraries in any state.
        # A server without threads imports them once for the workers of all passes.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_PRELOADED])
        self._name = work.name
        self._reports: Any = context.Queue()
        self._processes = [
            context.Process(target=_child, args=(work, tasks, self._reports), daemon=True)
            for _ in range(num_workers)
        ]

    def run(self, report: Report) -> None:
        try:
            with _interrupts_kept_back():
                for process in self._processes:
                    process.start()
            while any(process.is_alive() for process in self._processes):
                wait([process.sentinel for process in self._processes if process.is_alive()], _POLL_SECONDS)
                self._drain(report)
                self._check()
            self._drain(report)
            self._check()
        finally:
            for process in self._processes:
                if process.is_alive():
                    process.kill()  # nothing is lost: results appear when they are complete

    def _drain(self, report: Report) -> None:
        while True:
            try:
                message = self._reports.get_nowait()
            except queue.Empty:
                return
            if isinstance(message, BaseException):
                raise message
            report(message)

    def _check(self) -> None:
        for process in self._processes:
            if process.exitcode:
                self._drain(lambda _: None)  # the reason may have come since
                raise UserError(
                    f"{self._name}: a worker process died with {_death(process.exitcode)}; run the same "
                    "command again, it goes on where it stopped (with fewer --num-workers if memory ran out)"
                )


def _death(exitcode: int) -> str:
    return f"signal {-exitcode}" if exitcode < 0 else f"exit code {exitcode}"


def _child(work: Pass, tasks: Sequence[int], reports: Any) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _do_all(work, tasks, reports.put)
    except (UserError, OSError) as error:
        reports.put(error)
    except Exception as error:
        reports.put(RuntimeError(f"{error}\n{traceback.format_exc()}"))


@contextmanager
def _interrupts_kept_back() -> Iterator[None]:
    """Processes that start meanwhile never see Ctrl-C, which each would answer with a traceback.

    Their parent does, if need be afterwards, and ends them.
    """
    seen: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))  # some thread gets it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if seen:
            signal.raise_signal(signal.SIGINT)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

"""A thread that fetches what will be asked for next."""

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.5


class ReadAhead(Generic[Item]):
    """The items of an iterator, one of them fetched before it is asked for.

    What the iterator raises is raised where the item would have come.
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._ready: queue.Queue[Item | BaseException] = queue.Queue(maxsize=1)
        self._closed = threading.Event()
        threading.Thread(target=self._read, args=(items,), daemon=True).start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Let the thread end; nothing may be asked for any more."""
        self._closed.set()

    def _read(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                self._offer(item)
                if self._closed.is_set():
                    return
            self._offer(StopIteration())
        except BaseException as error:
            self._offer(error)

    def _offer(self, item: Item | BaseException) -> None:
        while not self._closed.is_set():
            try:
                return self._ready.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue

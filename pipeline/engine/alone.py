"""One run, one job: a second one in the same folder would undo what the first one writes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_prep.errors import UserError
from pipeline.engine.launch import Place
from pipeline.engine.ranks import on_rank_zero


@contextmanager
def training_alone(run_dir: Path, place: Place) -> Iterator[None]:
    """Inside the block no other job trains this run; all ranks enter together.

    The lock is on the folder, and goes with the process that holds it, however that ends. A file system that
    knows no such locks gives none.

    Raises:
        UserError: another job has it.
    """
    held: list[int] = []

    def lock() -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        held.append(os.open(run_dir, os.O_RDONLY))
        try:
            fcntl.flock(held[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{run_dir}: another job is training this run; wait for it, or start another run with name=…"
            ) from error
        except OSError:
            pass

    try:
        on_rank_zero(place, lock)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)

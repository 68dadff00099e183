"""What does not grow with the model, but with ranks, files and sequences; measured on one machine.

python bench/scaling_limits.py order      how long step k takes to pick its sequences, up to 10^12 of them
python bench/scaling_limits.py states     what it takes to open the state files of a checkpoint
python bench/scaling_limits.py shards FILE    what it takes to map shards, all of them copies of one
python bench/scaling_limits.py store      how many words per second the ranks' store takes
python bench/scaling_limits.py sockets    what a gloo group opens in each process
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.distributed as dist
import typer
from machine import machine
from rich.table import Table
from tables import CONSOLE, print_whole
from torch.multiprocessing.spawn import start_processes

from data_prep.shards.reading import read_batches
from pipeline.data.order import StepOrder
from pipeline.engine.optimizer_state import Pieces, write_pieces

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode="rich")

_Store: Any = dist.TCPStore  # type: ignore[attr-defined]  # torch does not export it to type checkers
_GLOBAL_SIZE, _MICRO_SIZE, _NUM_TASKS = 2_048, 32, 9


@app.command()
def order() -> None:
    """Milliseconds to pick a global batch, and a micro-batch, in the middle of an epoch; best of 5."""
    table = Table("sequences", f"{_GLOBAL_SIZE:,} of them, ms", f"{_MICRO_SIZE} of them, ms")
    for num_sequences in (10**6, 10**9, 10**12):
        sizes = [num_sequences // _NUM_TASKS] * _NUM_TASKS
        steps = StepOrder(sizes, [1] * _NUM_TASKS, _GLOBAL_SIZE, seed=0)
        step = num_sequences // _GLOBAL_SIZE // 2
        of_step = _best_of(partial(steps.step, step))
        of_part = _best_of(partial(steps.part, step, 512, _MICRO_SIZE))
        table.add_row(f"{num_sequences:,}", f"{1e3 * of_step:.1f}", f"{1e3 * of_part:.2f}")
    _show(table)


@app.command()
def states() -> None:
    """Seconds, and mappings that stay, of the files of W ranks opened by one of them."""
    table = Table("files", "wall s", "CPU s", "mappings")
    for num_files in (256, 1_024, 4_096):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}.safetensors" for number in range(num_files)]
            for number, path in enumerate(paths):
                names = (f"{key}/layer.{number}.weight" for key in ("exp_avg", "exp_avg_sq"))
                write_pieces(path, {name: (0, torch.zeros(8)) for name in names})
            table.add_row(f"{num_files:,}", *_opening(partial(Pieces, paths)))
    _show(table)


@app.command()
def shards(file: Annotated[Path, typer.Argument(help="An Arrow file that data_prep wrote.")]) -> None:
    """Seconds, and mappings that stay, of shards opened by a process."""
    table = Table("shards", "wall s", "CPU s", "mappings")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.arrow" for number in range(2_000)]
        for path in paths:
            shutil.copy(file, path)
        for num_files in (500, 2_000):
            opened = _opening(partial(_read_all, paths[:num_files]))
            table.add_row(f"{num_files:,}", *opened)
    _show(table)


@app.command()
def store(num_words: int = 20_000) -> None:
    """Words per second that one store takes from a rank that does nothing else."""
    server = _Store("127.0.0.1", 0, None, True, wait_for_workers=False)
    client = _Store("127.0.0.1", server.port, None, False, timeout=timedelta(seconds=60))
    started = time.perf_counter()
    for step in range(num_words):
        client.set("step/0", f"{step} {time.time()}")
    client.get("step/0")  # answered when all before is
    taken = time.perf_counter() - started
    CONSOLE.print(f"{num_words / taken:,.0f} words per second; {machine('torch')}")


@app.command()
def sockets() -> None:
    """Sockets that a further gloo group opens in a process."""
    for world_size in (2, 4):
        start_processes(_count_sockets, (world_size,), nprocs=world_size, start_method="fork")


def _count_sockets(rank: int, world_size: int) -> None:
    path = Path(tempfile.gettempdir()) / f"ranks-{os.getppid()}-{world_size}"
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world_size)
    before = _num_sockets()
    dist.new_group(backend="gloo")
    opened = _num_sockets() - before
    if rank == 0:
        CONSOLE.print(f"{world_size} ranks: {opened} sockets")
    dist.barrier()  # one that leaves early would close what another is still opening
    dist.destroy_process_group()


def _num_sockets() -> int:
    number = 0
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that lists them is gone
            number += path.readlink().name.startswith("socket:")
    return number


def _opening(action: Callable[[], Any]) -> tuple[str, str, str]:
    before, wall, cpu = _num_mappings(), time.perf_counter(), time.process_time()
    opened = action()
    figures = time.perf_counter() - wall, time.process_time() - cpu
    mappings = _num_mappings() - before
    del opened
    return f"{figures[0]:.2f}", f"{figures[1]:.2f}", f"{mappings:,}"


def _read_all(paths: list[Path]) -> list[Any]:
    return [read_batches(path) for path in paths]


def _num_mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def _best_of(action: Callable[[], Any]) -> float:
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _show(table: Table) -> None:
    print_whole(table)
    CONSOLE.print(machine("torch", "pyarrow"))


if __name__ == "__main__":
    app()

"""How long training waits for data, how fast a worker makes them, and what an open corpus costs in memory.

    python bench/data_loading.py wait shards       data wait as a share of step time, with 0 and 1 workers
    python bench/data_loading.py worker shards     sequences per second of one worker that does nothing else
    python bench/data_loading.py memory shards     memory per sequence of a corpus made large by repetition

`wait` runs the whole program and reads its metrics.jsonl; the first steps, in which everything starts, are
left out. `memory` counts anonymous memory: pages of mapped files belong to the system, which takes them back.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import torch
import typer
from machine import machine
from rich.table import Table
from tables import CONSOLE, print_whole

from data_prep.schema import Manifest, Shard, manifest_files, read_manifest
from data_prep.shards.reading import read_batches
from pipeline.config import BatchConfig, DataConfig, MaskingConfig, ObjectiveConfig
from pipeline.data.loader import MicroBatchLoader
from pipeline.data.shards import Shards
from pipeline.data.text import TextData

app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode="rich")

_TINY = Path(__file__).parents[1] / "configs" / "tiny.yaml"
_WARM_UP_STEPS = 5
_BATCH = BatchConfig(global_size=256, micro_size=32)
_ROWS_PER_BATCH, _ROWS_PER_SHARD = 1_024, 65_536

Folder = Annotated[Path, typer.Argument(help="Folder of shards that data_prep wrote.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds of each, interleaved.")]


@app.command()
def wait(shards: Folder, config: Path = _TINY, steps: int = 35, rounds: Rounds = 3) -> None:
    """Data wait as a share of step time, whole runs of `pipeline pretrain`, torch on one thread."""
    shares: dict[int, list[float]] = {0: [], 1: []}
    step_ms: dict[int, list[float]] = {0: [], 1: []}
    wait_ms: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(rounds):
        for num_workers in shares:
            lines = _metrics(shards, config, steps, num_workers)[_WARM_UP_STEPS:]
            waited, taken = (sum(line[key] for line in lines) for key in ("data_wait_s", "step_time_s"))
            shares[num_workers].append(100 * waited / taken)
            step_ms[num_workers].append(1e3 * taken / len(lines))
            wait_ms[num_workers].append(1e3 * waited / len(lines))
    CONSOLE.print(f"{config.name}, {steps} steps, {rounds} rounds; {_where()}")
    table = Table("data.num_workers", "step ms", "wait ms", "share %, min", "median", "max")
    for number, found in shares.items():
        times = [statistics.median(of[number]) for of in (step_ms, wait_ms)]
        spread = [min(found), statistics.median(found), max(found)]
        table.add_row(str(number), f"{times[0]:.1f}", *(f"{value:.2f}" for value in [times[1], *spread]))
    print_whole(table)


@app.command()
def worker(shards: Folder, seconds: float = 5, rounds: Rounds = 3) -> None:
    """Sequences per second of one worker whose micro-batches are taken at once, and of making them here."""
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {"here": [], "one worker": []}
    for _ in range(rounds):
        for found, num_workers in zip(rates.values(), (0, 1), strict=True):
            found.append(_rate(shards, num_workers, seconds))
    length = read_manifest(shards).sequence_length
    CONSOLE.print(f"sequences of up to {length} pieces, micro-batches of {_BATCH.micro_size}; {_where()}")
    table = Table("made", "sequences/s, min", "median", "max")
    for label, found in rates.items():
        spread = (min(found), statistics.median(found), max(found))
        table.add_row(label, *(f"{value:,.0f}" for value in spread))
    print_whole(table)


@app.command()
def memory(shards: Folder, sequences: int = 2_000_000) -> None:
    """Anonymous memory of a training process's data and of a worker, in a small and in a large corpus."""
    found: dict[int, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        for number in (sequences // 100, sequences):
            folder = Path(name) / str(number)
            _repeat(shards, folder, number)
            command = [sys.executable, __file__, "footprint", str(folder)]
            out = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this file
            found[number] = json.loads(out.stdout)
    (few, small), (many, large) = found.items()
    CONSOLE.print(f"{few:,} and {many:,} sequences; {_where()}")
    table = Table("anonymous MB", f"{few:,}", f"{many:,}", "bytes per sequence")
    for what in small:
        per_sequence = (large[what] - small[what]) / (many - few)
        sizes = (f"{of[what] / 1e6:.1f}" for of in (small, large))
        table.add_row(what, *sizes, f"{per_sequence:.2f}")
    print_whole(table)


@app.command(hidden=True)
def footprint(shards: Folder, steps: int = 100) -> None:
    """Print the growth of this process's memory when it opens shards, and what a worker has, as JSON."""
    torch.set_num_threads(1)
    empty = _anonymous(os.getpid())
    data = _text_data(shards)
    opened = _anonymous(os.getpid())
    for _ in _batches(data, 0, steps):
        pass
    used = _anonymous(os.getpid())
    source = MicroBatchLoader(data, 1, _BATCH.num_micro_batches, 0, 1, pin_memory=False)
    with source.ahead(0, steps + 100):  # the worker is still there when all steps asked for are served
        for step in range(steps):
            for index in range(_BATCH.num_micro_batches):
                source.micro_batch(step, index)
        (process,) = multiprocessing.active_children()
        in_worker = _anonymous(process.pid)
    sizes = {"run: shards opened": opened - empty, f"run: {steps} steps made": used - empty}
    print(json.dumps({**sizes, f"worker, with torch: {steps} steps made": in_worker}))


def _metrics(shards: Path, config: Path, steps: int, num_workers: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        keys = [f"data.path={shards}", f"out_dir={folder}", "name=run", f"steps={steps}", "log.every=1"]
        keys += ["validate.every=0", "checkpoint.every=0", f"data.num_workers={num_workers}"]
        command = [sys.executable, "-m", "pipeline", "pretrain", str(config), *keys]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, capture_output=True, check=True)  # noqa: S603 - our own
        return [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").open()]


def _text_data(shards: Path) -> TextData:
    parts = (DataConfig(path=shards), MaskingConfig(), ObjectiveConfig(nsp="off"), _BATCH)
    return TextData(Shards(shards), *parts, seed=0)


def _batches(data: TextData, num_workers: int, steps: int) -> Iterator[object]:
    source = MicroBatchLoader(data, num_workers, _BATCH.num_micro_batches, 0, 1, pin_memory=False)
    with source.ahead(0, steps):
        for step in range(steps):
            for index in range(_BATCH.num_micro_batches):
                yield source.micro_batch(step, index)


def _rate(shards: Path, num_workers: int, seconds: float) -> float:
    batches = _batches(_text_data(shards), num_workers, 1_000_000)
    for _ in islice(batches, 4 * _BATCH.num_micro_batches):  # what was made before the clock
        pass
    count, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        next(batches)
        count += _BATCH.micro_size
    taken = time.perf_counter() - start
    batches.close()
    return count / taken


def _repeat(shards: Path, folder: Path, sequences: int) -> None:
    """Write shards of `sequences` training sequences: those of `shards`, again and again."""
    manifest = read_manifest(shards)
    tasks = [task for task in manifest.task_names if manifest.train_rows(task)]
    entries: list[Shard] = []
    for task in tasks:
        first = manifest.shards_of("train", task)[0]
        schema, batches = read_batches(shards / first.path)
        rows = pa.Table.from_batches(batches)
        batch = rows.take([row % len(rows) for row in range(_ROWS_PER_BATCH)]).combine_chunks()
        left = sequences // len(tasks) // _ROWS_PER_BATCH
        while left:
            number = min(left, _ROWS_PER_SHARD // _ROWS_PER_BATCH)
            path = Path(first.path).with_name(f"shard-{len(entries):05d}.arrow")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with pa.OSFile(str(folder / path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
                for _ in range(number):
                    stream.write_table(batch)
            entry = {"path": str(path), "rows": number * _ROWS_PER_BATCH}
            entries.append(first.model_copy(update=entry))
            left -= number
    _write_manifest(shards, folder, manifest.model_copy(update={"shards": entries}))


def _write_manifest(shards: Path, folder: Path, manifest: Manifest) -> None:
    for name, content in manifest_files(manifest).items():
        (folder / name).write_bytes(content)
    (folder / "tokenizer.json").write_bytes((shards / "tokenizer.json").read_bytes())


def _anonymous(process: int) -> int:
    """Bytes of memory that no file backs."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def _where() -> str:
    return machine("torch", "pyarrow")


if __name__ == "__main__":
    app()

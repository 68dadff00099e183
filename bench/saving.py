"""What saving a checkpoint costs the training: asynchronously, and waiting for it.

    python bench/saving.py
    python bench/saving.py --model base --batch 4 --json saving.json

Windows of steps take turns in one process, in another random order each round: without a save, and with
one after the first step, written while training goes on or waited for. `blocked` is how long training stands
still for the save. `whole cost` is how much longer the window takes, the end of writing included: what the
thread that writes takes from the cores that train, too. Both in percent of a step's time.

On CPU, ZeRO stage 1. A file system in memory (--folder /dev/shm) shows what is left without a disk.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arguments import output_file, positive

MODES = ("no save", "asynchronous", "waiting")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table."""
    options = parse(arguments)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning thread would starve the one that writes
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Only now: torch reads these variables when it is imported.
    from machine import machine
    from rich.table import Table
    from tables import CONSOLE, print_whole

    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        found = measure(options, Path(scratch))
    CONSOLE.print(
        f"{machine('torch', 'safetensors')}, threads: {options.threads}\n"
        f"{options.model}, {found['parameters'] / 1e6:.1f} M parameters, {found['megabytes']:,.0f} MB a "
        f"checkpoint, steps of {options.batch} sequences: {found['step_s'] * 1e3:,.0f} ms; "
        f"{options.rounds} rounds of {options.steps} steps"
    )
    table = Table("", "blocked ms", "blocked, % of a step", "whole cost, % of a step", title="Saving")
    for mode, figures in found["modes"].items():
        low, middle, high = (100 * value for value in figures["cost"])
        table.add_row(
            mode,
            f"{figures['blocked_s'] * 1e3:,.1f}",
            f"{100 * figures['blocked_s'] / found['step_s']:,.1f}",
            f"{middle:,.0f} ({low:,.0f} to {high:,.0f})",
        )
    print_whole(table)
    CONSOLE.print("Medians; in brackets the quartiles over the rounds.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Seconds of a step, and of each mode what it costs over `no save`, in steps."""
    from train_step_cases import Sizes, prepare, run_config
    from train_step_engines import fresh_model

    from pipeline.assembly import text_data
    from pipeline.config import CheckpointConfig
    from pipeline.engine.job import Job
    from pipeline.engine.launch import join_ranks
    from pipeline.engine.saving import CheckpointSaver
    from pipeline.engine.training import TrainingRun

    place = join_ranks()
    shards = options.shards or prepare(scratch / "text", sequence_length=options.length)
    sizes = Sizes(options.model, options.vocab_size, options.length, options.batch, options.batch, "fp32", 1)
    config = run_config(shards, sizes, {"name": "average"}, out_dir=scratch)
    data, model = text_data(config), fresh_model(config)
    run = TrainingRun(Job(config, {"zero_optimization": {"stage": 1}}, data, model, {}, place))
    savers = {
        mode: CheckpointSaver(
            run.engine,
            model.network,
            {},
            config.run_dir,
            CheckpointConfig(asynchronous=mode == "asynchronous", keep_last=1),
            data.companion_files(),
            place,
        )
        for mode in MODES[1:]
    }
    steps = iter(range(1_000_000))
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    blocked: dict[str, list[float]] = {mode: [] for mode in MODES}
    for number in range(options.rounds + 1):
        for mode in random.sample(MODES, len(MODES)):
            window_s, save_s = _window(run, savers.get(mode), steps, options.steps)
            if number > 0:  # the first one brings memory and files into being
                seconds[mode].append(window_s)
                blocked[mode].append(save_s)
    step_s = statistics.median(seconds["no save"]) / options.steps
    size = sum(path.stat().st_size for path in scratch.rglob("step-*/**/*") if path.is_file())
    return {
        "parameters": sum(parameter.numel() for parameter in run.engine.module.parameters()),
        "megabytes": size / 1e6,
        "step_s": step_s,
        "modes": {
            mode: {
                "blocked_s": statistics.median(blocked[mode]),
                "cost": _quartiles(
                    [(w - o) / step_s for w, o in zip(seconds[mode], seconds["no save"], strict=True)]
                ),
                "window_s": seconds[mode],
            }
            for mode in MODES
        },
    }


def _window(run: Any, saver: Any, steps: Any, num_steps: int) -> tuple[float, float]:
    """Seconds of `num_steps` steps with a save after the first one, and of the call that saves."""
    save_s = 0.0
    started = time.perf_counter()
    for number in range(num_steps):
        step = next(steps)
        run.runner.run(step)
        if saver and number == 0:
            asked = time.perf_counter()
            saver.save(run.manifest().model_copy(update={"step": step + 1}))
            save_s = time.perf_counter() - asked
    if saver:
        saver.wait()
    return time.perf_counter() - started, save_s


def _quartiles(values: list[float]) -> list[float]:
    """Of at least two values."""
    return statistics.quantiles(values, n=4)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--model", choices=["tiny", "mini", "small", "medium", "base"], default="mini", help="model.size")
    add("--vocab-size", type=positive, default=30_522, help="model.vocab_size (default: %(default)s)")
    add("--length", type=positive, default=128, help="pieces of a sequence (default: %(default)s)")
    add("--batch", type=positive, default=32, help="sequences of a step (default: %(default)s)")
    add("--steps", type=positive, default=4, help="steps of a window (default: %(default)s)")
    add("--rounds", type=positive, default=9, help="rounds, at least 2 (default: %(default)s)")
    add("--threads", type=positive, default=1, help="CPU threads that train (default: %(default)s)")
    add("--shards", type=Path, metavar="FOLDER", help="read these shards")
    add("--folder", type=Path, help="save below this folder (default: that of temporary files)")
    add("--json", type=output_file, metavar="FILE", help="write every number there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What it saves and takes to run layers again in the backward pass, and to compile them.

    python bench/layers.py
    python bench/layers.py --model base --batch 8 --json layers.json

Memory: the most within the third step, over what the imports and a tiny run left, in a process of its own for
each variant, beside the tensors that `pipeline plan` expects; that of compiled layers is not measured. Time:
variants take turns in one process, in another random order each round; ratios are those within a round, in
CPU seconds, which other work disturbs least.

On CPU, fp32, ZeRO stage 1. Exits 1 if losses differ by a bit where layers run again, or by 1e-4 compiled.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from arguments import output_file, positive

STAGE = 1
AS_THEY_ARE = "as they are"
COMPILED = "compiled"
# By default the C library keeps some of what tensors give back, which is no tensor's memory.
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": "", "MALLOC_MMAP_THRESHOLD_": "65536"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 where results disagree."""
    options = parse(arguments)
    if os.environ.get("MALLOC_MMAP_THRESHOLD_") is None:  # read when a process starts
        os.environ.update(
            ENVIRONMENT, OMP_NUM_THREADS=str(options.threads), MKL_NUM_THREADS=str(options.threads)
        )
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this program again
    # Only now: torch reads these variables when it is imported.
    from machine import machine
    from rich.table import Table
    from tables import CONSOLE, MIB, print_whole, spread

    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    CONSOLE.print(
        f"{machine('torch', 'deepspeed')}, threads: {options.threads}\n"
        f"{options.model}, V = {options.vocab_size:,}, fp32, {options.batch} sequences of at most "
        f"{options.length}, {options.rounds} rounds"
    )
    table = Table("layers", "peak MiB", "planned MiB", "CPU seconds of a step ÷ as they are", title="Layers")
    for name, figures in found.items():
        peak = f"{figures['peak_bytes'] / MIB:,.0f}" if figures["peak_bytes"] else "–"
        planned = f"{figures['planned_bytes'] / MIB:,.0f}" if figures["planned_bytes"] else "–"
        table.add_row(name, peak, planned, spread(figures["time_ratios"]))
    print_whole(table)
    CONSOLE.print("Ratios: least, median, largest of the rounds.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    differing = [name for name, figures in found.items() if not same_losses(name, figures, found)]
    for name in differing:
        CONSOLE.print(f"Wrong result: {name}: losses differ from those of layers as they are")
    return 1 if differing else 0


def same_losses(name: str, figures: dict[str, Any], found: dict[str, dict[str, Any]]) -> bool:
    """Whether a variant has the losses of layers as they are: to the bit, or where compiled to rounding."""
    tolerance = 1e-4 if name == COMPILED else 0.0
    pairs = zip(figures["losses"], found[AS_THEY_ARE]["losses"], strict=True)
    return all(abs(loss - expected) <= tolerance * expected for loss, expected in pairs)


def measure(options: argparse.Namespace, scratch: Path) -> dict[str, dict[str, Any]]:
    """The figures of each variant, by its name."""
    from train_step_cases import Sizes, prepare, run_config
    from train_step_engines import OurSteps
    from train_step_measure import WARM_UP, take_turns

    from pipeline.engine.launch import join_ranks
    from pipeline.models.bert import SIZES

    shards = options.shards or prepare(
        scratch / "text", sequence_length=options.length, vocab_size=options.vocab_size
    )
    num_steps = WARM_UP + options.rounds
    shape = (options.model, options.vocab_size, options.length, options.batch, options.batch, "fp32")
    config = run_config(shards, Sizes(*shape, num_steps), {"name": "average"})
    half, num_layers = SIZES[options.model].num_layers // 2, SIZES[options.model].num_layers
    again: dict[str, dict[str, Any]] = {
        AS_THEY_ARE: {},
        f"{half} of {num_layers} run again": {"activation_checkpointing": {"number_checkpoints": half}},
        "all run again": {"activation_checkpointing": {}},
    }
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as fresh_processes:
        peaks = {name: fresh_processes.submit(peak_of, config, v).result() for name, v in again.items()}
    place = join_ranks()
    steps = {name: OurSteps(config, STAGE, place, **sections) for name, sections in again.items()}
    steps[COMPILED] = OurSteps(config.model_copy(update={"compile": True}), STAGE, place)
    take_turns(steps, num_steps)
    seconds = {name: each.clock.cpu_s[WARM_UP:] for name, each in steps.items()}
    usual = seconds[AS_THEY_ARE]
    return {
        name: {
            "peak_bytes": peaks.get(name),
            "planned_bytes": planned_bytes(config, again[name]) if name in again else None,
            "time_ratios": [own / base for own, base in zip(seconds[name], usual, strict=True)],
            "cpu_s": seconds[name],
            "losses": each.losses,
        }
        for name, each in steps.items()
    }


def peak_of(config: Any, sections: dict[str, Any]) -> int | None:
    """The most bytes within the third step; None where the system cannot tell."""
    from machine import resident_bytes
    from train_step_engines import OurSteps
    from train_step_measure import settled_bytes

    from pipeline.engine.launch import join_ranks

    if not os.access("/proc/self/clear_refs", os.W_OK):
        return None
    place = join_ranks()
    tiny = config.model_copy(update={"model": config.model.model_copy(update={"size": "tiny"})})
    OurSteps(tiny, STAGE, place, **sections).step()  # brings libraries' code and tables into memory
    before = settled_bytes()
    steps = OurSteps(config, STAGE, place, **sections)
    for _ in range(2):
        steps.step()
    settled_bytes()
    steps.step()
    return resident_bytes("VmHWM") - before


def planned_bytes(config: Any, sections: dict[str, Any]) -> int:
    """What `pipeline plan --device cpu` says."""
    from pipeline.plan.run_plan import plan_run
    from pipeline.plan.text_case import planned_case

    settings = {"zero_optimization": {"stage": STAGE}, **sections}
    return plan_run(config, settings, planned_case(config, None), 1, "cpu", None).memory[STAGE].peak


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--model", choices=["tiny", "mini", "small", "medium", "base"], default="medium", help="model.size")
    add("--vocab-size", type=positive, default=4_096, help="pieces (default: %(default)s)")
    add("--length", type=positive, default=128, help="pieces of a sequence (default: %(default)s)")
    add("--batch", type=positive, default=16, help="sequences of a step (default: %(default)s)")
    add("--rounds", type=positive, default=5, help="timed rounds (default: %(default)s)")
    add("--threads", type=positive, default=1, help="CPU threads (default: %(default)s)")
    add("--shards", type=Path, metavar="FOLDER", help="read these shards")
    add("--json", type=output_file, metavar="FILE", help="write every number there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

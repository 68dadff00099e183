"""What each objective costs, relative to the average risk: FLOPs, passes, time and memory of a step.

    python bench/objectives.py
    python bench/objectives.py --model base --batch 16 --micro 4 --rounds 3 --json objectives.json

FLOPs    of the matrix products in a step, counted by torch (`torch.utils.flop_counter`)
passes   forward and backward, for each micro-batch
time     CPU seconds of a step ÷ those of `average` in the same round, in which variants take turns in another
         random order: least, median, largest of the rounds
memory   the most within a step, over what is held between steps

The paper's Table 3 charges minimax 2 T where average costs T. One backward pass for all tasks, and weights
from losses that are there already, make it T; `two_pass` adds a forward pass where a rank has several
micro-batches, 4/3 T.

On CPU, fp32, ZeRO stage 1. Text is the embedded corpus, prepared in a temporary folder. Exits 1 if FLOPs of
minimax are not as claimed, or if the first losses differ; never for a time.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arguments import output_file, positive


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 where a claim is wrong."""
    options = parse(arguments)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Only now: torch reads these variables when it is imported.
    from objectives_measure import measure, wrong
    from tables import CONSOLE
    from train_step_cases import Sizes, prepare
    from train_step_report import where

    from pipeline.engine.launch import join_ranks

    place = where()
    sizes = Sizes(options.model, options.vocab_size, options.length, options.batch, options.micro, "fp32", 1)
    with tempfile.TemporaryDirectory() as folder:
        shards = options.shards or prepare(
            Path(folder) / "text", sequence_length=options.length, vocab_size=options.vocab_size
        )
        costs = measure(sizes, shards, options.rounds, join_ranks())
    CONSOLE.print(f"{place}\n{sizes.title} in {options.batch // options.micro} micro-batches")
    print_costs(costs, options.batch // options.micro)
    mistakes = wrong(costs, accumulates=options.batch > options.micro)
    if options.json:
        found = {"machine": place, "sizes": asdict(sizes), "costs": [asdict(c) for c in costs.values()]}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    for line in mistakes:
        CONSOLE.print(f"Wrong result: {line}")
    return 1 if mistakes else 0


def print_costs(costs: dict[str, Any], num_micro_batches: int) -> None:
    """A row for each objective."""
    from objectives_measure import AVERAGE
    from rich.table import Table
    from tables import MIB, print_whole, spread

    average = costs[AVERAGE]
    gigaflops = f"FLOPs ÷ {average.flops / 1e9:,.1f} G"
    table = Table("objective", title="A step, relative to the average risk", title_justify="left")
    for column in (gigaflops, "passes", "time ÷ average: least, median, largest", "memory, MiB"):
        table.add_column(column, justify="right")
    for name, cost in costs.items():
        ratios = [own / base for own, base in zip(cost.cpu_s, average.cpu_s, strict=True)]
        passes = (number // num_micro_batches for number in (cost.num_forward, cost.num_backward))
        table.add_row(
            name,
            f"{cost.flops / average.flops:.4f}",
            " + ".join(map(str, passes)),
            spread(ratios),
            "–" if cost.peak_bytes is None else f"{cost.peak_bytes / MIB:,.0f}",
        )
    print_whole(table)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    models = ["tiny", "mini", "small", "medium", "base"]
    add("--model", choices=models, default="mini", help="model.size (default: %(default)s: 4 layers of 256)")
    add("--vocab-size", type=positive, default=4_096, help="model.vocab_size (default: %(default)s)")
    add("--length", type=positive, default=128, help="pieces of a sequence (default: %(default)s)")
    add("--batch", type=positive, default=32, help="sequences of a step (default: %(default)s)")
    add("--micro", type=positive, default=8, help="of a forward pass, divides it (default: %(default)s)")
    add("--rounds", type=positive, default=7, help="timed rounds (default: %(default)s)")
    add("--threads", type=positive, default=1, help="CPU threads (default: %(default)s)")
    add("--shards", type=Path, metavar="FOLDER", help="read these shards instead")
    add("--json", type=output_file, metavar="FILE", help="write every number there")
    options = parser.parse_args(arguments)
    if options.batch % options.micro:
        parser.error(f"--micro: {options.micro} does not divide {options.batch}")
    return options


if __name__ == "__main__":
    sys.exit(main())

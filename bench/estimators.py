"""What the estimators of the task weights are worth: their distance from the exact weights, and their bias.

    python bench/estimators.py
    python bench/estimators.py --alphas 1 4 --seeds 5 --json estimators.json

A run of minimax trains with the exact weights, softmax(α L) of the mean losses of the whole step. Before each
step, at its parameters, each estimator says which weights it would have used: `batch`, in a step of several
micro-batches on one rank, and `ema`. That is the engine's own rule, fed with the losses of the run; the run
does not follow it.

distance      ½ Σ|w − exact w|: the part of the weight that lies on the wrong tasks; mean and 95 % over steps
Σ w           `batch` weighs the losses of each micro-batch by themselves, and a task counts where it is
              present: the sum is not 1
bias          mean over steps of w − exact w, ± standard deviation over seeds
"other masks"  exact weights of the same sequences with other masks and dropout: what chance makes of them
bias ~ count  rank correlation over tasks: below 0, rare tasks are favoured

What an estimator costs: python bench/train_step.py --parts a. Text is the embedded corpus, prepared in a
temporary folder, with next-sentence prediction off.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from arguments import output_file, positive


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, compare, print the tables."""
    options = parse(arguments)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Only now: torch reads these variables when it is imported.
    from estimators_report import as_json, print_comparison
    from machine import machine
    from tables import CONSOLE

    place = machine("torch", "deepspeed")
    CONSOLE.print(
        f"{place}\n{options.size}, {options.batch} sequences a step, {options.steps} steps, ", end=""
    )
    CONSOLE.print(f"{options.seeds} seeds\n")
    found = []
    for comparison in compared(options):
        print_comparison(comparison)
        found.append(comparison)
    if options.json:
        shown = {name: value for name, value in vars(options).items() if name not in ("json", "shards")}
        options.json.write_text(json.dumps(as_json(place, shown, found), indent=1) + "\n")
    return 0


def compared(options: argparse.Namespace) -> Iterator[Any]:
    """A comparison for each α."""
    from estimators_measure import measure
    from estimators_report import compare
    from train_step_cases import Sizes, prepare

    from pipeline.data.shards import Shards
    from pipeline.engine.launch import join_ranks

    length, vocab_size, batch = options.length, options.vocab_size, options.batch
    sizes = Sizes(options.size, vocab_size, length, batch, batch, "fp32", options.steps)
    with tempfile.TemporaryDirectory() as folder:
        shards = options.shards or prepare(Path(folder), sequence_length=length, vocab_size=vocab_size)
        place = join_ranks()
        tasks = tuple(Shards(shards).task_names)
        for alpha in options.alphas:
            yield compare(
                [
                    measure(sizes, shards, alpha, seed, options.micro_batches, place)
                    for seed in range(options.seeds)
                ],
                tasks,
            )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--alphas", type=not_negative, nargs="+", default=[1.0, 4.0], help="(default: 1 4)")
    add("--seeds", type=positive, default=3, help="runs for each α (default: %(default)s)")
    add("--steps", type=positive, default=120, help="of each run (default: %(default)s)")
    add("--batch", type=positive, default=64, help="sequences of a step (default: %(default)s)")
    cuts = "of a step, for `batch`; each divides the next (default: 1 4 16)"
    add("--micro-batches", type=positive, nargs="+", default=[1, 4, 16], help=cuts)
    add("--size", default="tiny", help="model.size (default: %(default)s: 2 layers of 128)")
    add("--vocab-size", type=positive, default=4_096, help="model.vocab_size (default: %(default)s)")
    add("--length", type=positive, default=64, help="pieces of a sequence (default: %(default)s)")
    add("--threads", type=positive, default=1, help="CPU threads (default: %(default)s)")
    add("--shards", type=Path, metavar="FOLDER", help="read these shards instead")
    add("--json", type=output_file, metavar="FILE", help="write every number there")
    options = parser.parse_args(arguments)
    for fewer, more in zip(options.micro_batches, [*options.micro_batches[1:], options.batch], strict=True):
        if more % fewer:
            parser.error(f"--micro-batches: {fewer} does not divide {more}")
    return options


def not_negative(text: str) -> float:
    """A number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return number


if __name__ == "__main__":
    sys.exit(main())

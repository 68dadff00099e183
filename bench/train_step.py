"""Time, throughput and memory of a training step, against its peers.

    python bench/train_step.py
    python bench/train_step.py --parts b --shapes base --json step.json --plot step.png

Parts:
a  minimax with each estimator against the average risk, in a step of several forward passes
b  our step against transformers' Trainer with BertForPreTraining and its standard collator: same initial
   parameters, same sequences in the same order, 15 % of the pieces masked, AdamW, clipping, one forward pass.
   Both keep their defaults: Trainer fused AdamW, and in bf16 autocast, where ours has weights in bf16; ours
   the ZeRO stage of one rank without a DeepSpeed JSON, 0 in fp32 and 1 in bf16. Trainer masks pieces, ours
   whole words, and each draws its own. Both make batches in the training process
c  DeepSpeed's engine against the same loop on plain torch, fp32
d  memory of Trainer, of stage 1 and of plain torch, each in a process of its own, fp32
e  bf16 against fp32 for the model of `make demo`

On CPU. Variants take turns in one process, in another random order each round (Trainer, which owns its loop,
always first); ratios are those within a round. Text is the embedded corpus, prepared in a temporary folder.

Exits 1 if results disagree that must not, not if a target is missed: other work on the machine costs speed.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from arguments import output_file, positive

SHAPES = ("tiny", "mini", "small", "medium", "base")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each part, print the tables; 1 where results disagree."""
    options = parse(arguments)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    # A thread that spins at the end of each operation starves the others where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if {"b", "d"} & set(options.parts) and find_spec("accelerate") is None:
        print("parts b and d: Trainer needs the package accelerate; or --parts a c e", file=sys.stderr)
        return 2
    # Only now: torch reads these variables when it is imported.
    from tables import CONSOLE
    from train_step_report import as_json, judge, print_found, print_targets, where

    if options.plot:  # before the work, so that a missing matplotlib costs none
        from train_step_plot import draw

    place = where()
    CONSOLE.print(place + "\n")
    found = []
    for part in measured(options):
        print_found(part)
        found.append(part)
    verdicts = judge(found)
    print_targets(verdicts)
    if options.json:
        options.json.write_text(json.dumps(as_json(place, vars(options), found, verdicts), indent=1) + "\n")
    if options.plot:
        draw(found, options.plot)

    wrong = [line for part in found for line in part.wrong]
    for line in wrong:
        CONSOLE.print(f"Wrong result: {line}")
    return 1 if wrong else 0


def measured(options: argparse.Namespace) -> Iterator[Any]:
    """The parts that were asked for, one after the other."""
    from train_step_cases import DEMO_SETTINGS, Sizes, prepare
    from train_step_measure import engines, memory, objectives, peers, precisions

    from pipeline.engine.launch import join_ranks

    sizes = {
        name: Sizes(
            name, options.vocab_size, options.length, options.batch, options.micro, options.precision, 1
        )
        for name in options.shapes
    }
    first = sizes[options.shapes[0]]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if set(options.parts) - {"e"}:
            shards = options.shards or prepare(scratch / "text", sequence_length=options.length)
        if "e" in options.parts:
            demo_shards = options.shards or prepare(scratch / "demo", **DEMO_SETTINGS)
        place = join_ranks()
        if "a" in options.parts:
            yield objectives(first, shards, options.rounds, place)
        if "b" in options.parts:
            for size in sizes.values():
                yield peers(size, shards, options.rounds, place)
        if "c" in options.parts:
            yield engines(first, shards, options.rounds, place)
        if "d" in options.parts:
            yield memory(first, shards)
        if "e" in options.parts:
            yield precisions(demo_shards, options.rounds, place)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--parts", choices="abcde", nargs="+", default=list("abcde"), help="(default: all)")
    add("--rounds", type=positive, default=7, help="timed rounds, at most 3 of base (default: %(default)s)")
    shapes = "model.size of b, the first one also of a, c and d (default: mini base; mini: 4 layers of 256)"
    add("--shapes", choices=SHAPES, nargs="+", default=["mini", "base"], help=shapes)
    add("--vocab-size", type=positive, default=30_522, help="model.vocab_size (default: %(default)s)")
    add("--length", type=positive, default=128, help="pieces of a sequence (default: %(default)s)")
    batch = "sequences of a step, at most 16 of base (default: %(default)s)"
    add("--batch", type=positive, default=32, help=batch)
    add("--micro", type=positive, default=8, help="of a forward pass in a (default: %(default)s)")
    add("--precision", choices=["fp32", "bf16"], default="fp32", help="of a and b (default: %(default)s)")
    add("--threads", type=positive, default=2, help="CPU threads (default: %(default)s)")
    add("--shards", type=Path, metavar="FOLDER", help="read these shards instead, in all parts")
    add("--plot", type=output_file, metavar="FILE.png", help="draw where the time goes there")
    add("--json", type=output_file, metavar="FILE", help="write every number there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""ModernBERT's training step on pieces alone against the same step on padded sequences.

    python bench/unpadding.py
    python bench/unpadding.py --shards shards --size base --batch 16

On CPU, fp32, without DeepSpeed. Both start from the same parameters and read the same micro-batches; they
take turns in one process, in another random order each round, and ratios are those within a round. Text is
the embedded corpus, of many short documents, prepared in a temporary folder. Exits 1 if the losses differ.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arguments import positive

PADDED, UNPADDED = "padded", "unpadded"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 where the losses differ."""
    options = parse(arguments)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Only now: torch reads these variables when it is imported.
    from tables import CONSOLE
    from train_step_cases import prepare
    from train_step_report import print_regions, print_speed, where

    CONSOLE.print(where() + "\n")
    with tempfile.TemporaryDirectory() as folder:
        shards = options.shards or prepare(Path(folder) / "text", sequence_length=options.length)
        found, padding = measured(options, shards)
    print_speed(found)
    print_regions(found)
    CONSOLE.print(f"Padding: {padding:.1%} of a micro-batch. ÷, ×: minimum, median, maximum within a round.")
    for line in found.wrong:
        CONSOLE.print(f"Wrong result: {line}")
    return 1 if found.wrong else 0


def measured(options: argparse.Namespace, shards: Path) -> tuple[Any, float]:
    """What was found, and the mean share of padding."""
    from train_step_cases import Sizes, run_config
    from train_step_engines import OurSteps
    from train_step_measure import BATCH, OBJECTIVES, WARM_UP, Found, compare, take_turns, timed

    from data_prep.schema import read_manifest
    from pipeline.engine.launch import join_ranks

    rounds, batch = WARM_UP + options.rounds, options.batch
    vocab_size = read_manifest(shards).vocab_size
    sizes = Sizes(options.size, vocab_size, options.length, batch, batch, "fp32", rounds)
    place = join_ranks()
    variants = {}
    for name, unpad in ((PADDED, False), (UNPADDED, True)):
        model = {"backbone": "modernbert", "size": options.size, "unpad": unpad}
        config = run_config(shards, sizes, OBJECTIVES[BATCH], model=model)
        variants[name] = OurSteps(config, None, place)
    take_turns(variants, rounds)
    title = f"ModernBERT-{sizes.title}"
    found = Found("", title, PADDED, {name: timed(name, steps) for name, steps in variants.items()}, sizes)
    losses = {name: result.losses for name, result in found.results.items()}
    for unpadded, padded in zip(losses[UNPADDED], losses[PADDED], strict=True):
        compare(found, UNPADDED, "loss", unpadded, padded, 1e-4)
    data = variants[PADDED].data
    masks = [data.micro_batch(step, 0).inputs["attention_mask"] for step in range(rounds)]
    return found, 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.numel() for mask in masks)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=positive, default=9, help="timed rounds (default: %(default)s)")
    add("--size", default="small", help="model.size (default: %(default)s, 4 layers of 512)")
    add("--length", type=positive, default=128, help="pieces of a sequence (default: %(default)s)")
    add("--batch", type=positive, default=32, help="sequences of a step (default: %(default)s)")
    add("--threads", type=positive, default=1, help="CPU threads (default: %(default)s)")
    add("--shards", type=Path, metavar="FOLDER", help="read these shards instead")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

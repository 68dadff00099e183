"""Time and memory of `task_kernels.task_loss_sums` against its peers and the matrix products they share.

    python bench/loss_kernel.py
    python bench/loss_kernel.py --dtypes bf16 --dims 768 --rounds 5 --plot loss.png --json loss.json

A step is forward and backward of Σ_t g_t · sum_t, with a random g_t for each task, to hidden, weight and
bias. Every variant is checked against float64 first. The variants then take turns in one process, in another
random order each round, and ratios are those within a round. The three matrix products are those that no
exact method can do without, as torch.mm runs them on plain tensors: logits that lie better in memory can make
them faster, and a ratio smaller than 1. Peak memory is that of a step in a process of its own, over what was
resident before it; it contains the gradients.

Exits 1 if a result is wrong, not if a target is missed: other work on the machine costs speed.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from arguments import output_file, positive


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each case, print the tables; 1 where a result is wrong."""
    options = parse(arguments)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    # A thread that spins at the end of each operation starves the others where cores are shared.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Only now: torch reads these variables when it is imported.
    import torch
    from loss_measure import measure, where
    from loss_peers import Case
    from loss_report import (
        TARGET_SIZES,
        as_json,
        judge,
        print_errors,
        print_speed,
        print_targets,
        wrong_results,
    )
    from tables import CONSOLE

    if options.plot:  # before the work, so that a missing matplotlib costs none
        from loss_plot import draw

    if options.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: torch finds no GPU here", file=sys.stderr)
        return 2
    place = where(options.device)
    CONSOLE.print(place, soft_wrap=True)
    CONSOLE.print(
        f"{options.rows:,} rows, {options.vocab:,} words, {options.tasks} tasks, {options.rounds} rounds\n"
    )
    found = []
    for dtype in options.dtypes:
        for dims in options.dims:
            case = Case(dtype, dims, options.rows, options.vocab, options.tasks, options.device)
            with CONSOLE.status(case.title):
                found.append(measure(case, options.rounds))
            print_errors(found[-1])
            print_speed(found[-1])
    verdicts = judge(found) if (options.rows, options.vocab) == TARGET_SIZES else []
    if verdicts:
        print_targets(verdicts)
    if options.json:
        options.json.write_text(json.dumps(as_json(place, vars(options), found, verdicts), indent=1) + "\n")
    if options.plot:
        draw(found, place, options.plot)

    wrong = wrong_results(found)
    for line in wrong:
        CONSOLE.print(f"Wrong result: {line}")
    return 1 if wrong else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=positive, default=9, help="rounds of each (default: %(default)s)")
    add("--rows", type=positive, default=1024, help="N, masked words (default: %(default)s)")
    add("--vocab", type=positive, default=30_522, help="V (default: %(default)s)")
    add("--dims", type=positive, nargs="+", default=[256, 768], help="D, one or more (default: 256 768)")
    add("--dtypes", choices=["fp32", "bf16"], nargs="+", default=["fp32", "bf16"], help="(default: both)")
    add("--tasks", type=positive, default=9, help="T (default: %(default)s)")
    add("--threads", type=positive, default=2, help="CPU threads (default: %(default)s)")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="(default: %(default)s)")
    add("--plot", type=output_file, metavar="FILE.png", help="draw times and memory there")
    add("--json", type=output_file, metavar="FILE", help="write every number there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

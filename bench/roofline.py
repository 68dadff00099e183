"""What the kernels' bytes and operations allow on each GPU. Estimates from published peaks, no measurement.

    python bench/roofline.py --rows 4096 --vocab 30522 --dims 768 --markdown roofline.md

The kernels are compiled first: their registers give the occupancy, their instructions the time to issue them.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from arguments import output_file, positive
from compile_kernels import Result, check, launches_of_rows
from gpus import GPUS, Gpu
from rich.table import Table
from tables import print_whole
from task_kernels.triton_rows import MAX_CLASSES_ON_CHIP

BYTES = 2  # of a bf16
COLUMNS = (
    "GPU",
    "rows resident",
    "row kernel: memory, µs",
    "issue, µs",
    "overlapped–in turn, µs",
    "share of memory peak",
    "3 products, µs",
    "share of step",
    "low: 4 products, µs",
)


@dataclass(frozen=True)
class Problem:
    """N rows, V classes, D inputs, in bf16."""

    rows: int
    classes: int
    dims: int

    @property
    def logits_bytes(self) -> int:
        """With rows padded to a multiple of 16."""
        return self.rows * (-(-self.classes // 16) * 16) * BYTES

    @property
    def product_flops(self) -> int:
        """Operations of one matrix product of [N, D], [D, V]."""
        return 2 * self.rows * self.classes * self.dims

    @property
    def operand_bytes(self) -> int:
        """Of `hidden` and `weight`, read once."""
        return (self.rows + self.classes) * self.dims * BYTES


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=positive, default=4_096, help="N (default: %(default)s)")
    parser.add_argument("--vocab", type=positive, default=30_522, help="V (default: %(default)s)")
    parser.add_argument("--dims", type=positive, default=768, help="D (default: %(default)s)")
    parser.add_argument("--markdown", type=output_file, metavar="FILE", help="write the table there")
    options = parser.parse_args()
    if options.vocab > MAX_CLASSES_ON_CHIP:
        parser.error(f"--vocab above {MAX_CLASSES_ON_CHIP:,}: rows are read twice, from memory or from cache")
    problem = Problem(options.rows, options.vocab, options.dims)
    rows = [cells(gpu, problem) for gpu in GPUS]
    table = Table(
        *COLUMNS, title="Estimates from published peaks; nothing was measured", title_justify="left"
    )
    for row in rows:
        table.add_row(*row)
    print_whole(table)
    if options.markdown:
        options.markdown.write_text("\n".join(markdown(rows)) + "\n")


def cells(gpu: Gpu, problem: Problem) -> list[str]:
    """The row of one GPU."""
    (launch,) = launches_of_rows(gpu, torch.bfloat16, problem.classes, has_bias=True)
    result = check(gpu, launch)
    memory, issue = memory_time(gpu, 2 * problem.logits_bytes), issue_time(result, problem.rows)
    # Where one row is resident in a processor, memory may lie idle while it computes, or serve the others.
    best, worst = max(memory, issue), memory + issue
    products = 3 * product_time(gpu, problem)
    recomputing = 4 * product_time(gpu, problem)
    return [
        gpu.name,
        str(resident_programs(result)),
        f"{memory * 1e6:.0f}",
        f"{issue * 1e6:.0f}",
        f"{best * 1e6:.0f}–{worst * 1e6:.0f}",
        f"{memory / worst:.0%}–{memory / best:.0%}",
        f"{products * 1e6:.0f}",
        f"{best / (best + products):.0%}–{worst / (worst + products):.0%}",
        f"{recomputing * 1e6:.0f}",
    ]


def memory_time(gpu: Gpu, num_bytes: int) -> float:
    """Seconds to move bytes to or from the GPU's memory."""
    return num_bytes / gpu.bandwidth


def product_time(gpu: Gpu, problem: Problem) -> float:
    """Seconds of one product with the logits on one side: by operations, or by bytes where that is more."""
    num_bytes = problem.logits_bytes + problem.operand_bytes
    return max(problem.product_flops / gpu.matrix_rate, memory_time(gpu, num_bytes))


def issue_time(result: Result, programs: int) -> float:
    """Seconds to issue every instruction of every warp, one lane an element and cycle."""
    assert result.compiled is not None
    gpu = result.gpu
    lanes = result.compiled.instructions * result.launch.options["num_warps"] * gpu.target.warp_size
    return lanes * programs / (gpu.lanes * gpu.processors * gpu.clock)


def resident_programs(result: Result) -> int:
    """Programs that fit into one processor at a time, by registers and threads."""
    assert result.compiled is not None
    gpu = result.gpu
    threads = result.launch.options["num_warps"] * gpu.target.warp_size
    registers = -(-result.compiled.registers // 8) * 8 * threads
    return min(gpu.registers // registers, gpu.threads // threads)


def markdown(rows: list[list[str]]) -> Iterator[str]:
    """The table for docs."""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---|" + "---:|" * (len(COLUMNS) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    main()

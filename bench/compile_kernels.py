"""Compiles every Triton kernel for five GPUs, on a machine without one, and checks what came out.

    python bench/compile_kernels.py --json kernels.json --markdown kernels.md

What is compiled is what the launchers would launch for problems that reach each of their
configurations. Held: it compiles; no register is spilled; shared memory is within the GPU's limit; kernels
over rows read 128 bits at a time; kernels over tiles use tensor cores for bf16. One line for each failure,
and exit code 1. Compiled kernels are kept in TRITON_CACHE_DIR; a second run only
reads the machine code again. Takes a minute or two.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import torch
from arguments import output_file
from gpus import GPUS, Gpu
from kernel_inspection import Compiled, compile_launch
from machine import machine
from recorded_launches import NAMES, Launch, recording
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tables import CONSOLE, print_whole
from task_kernels import triton_rows, triton_tiles, triton_weights
from task_kernels.logits import empty_logits

WIDE, MATRIX = "128-bit loads", "matrix instructions"
ROWS, SIZE, TASKS = 4_091, 768, 9  # micro-batches differ in their rows: no multiple of 16
VOCABULARY = 30_522
TILE = 2_048
# One for each block of the kernels over rows; the last is for the loop. None is divisible by 16.
VOCABULARIES = (4_090, 8_190, 16_382, VOCABULARY, 250_002)
ODD_SIZE = 784  # a multiple of 16 that is none of a tile's depth
COLUMNS = ("kernel", "problem", "GPU", "registers", "spills", "shared bytes", WIDE, "matrix", "instructions")


@dataclass
class Result:
    """A launch, and what the compiler made of it; `failures` are sentences."""

    launch: Launch
    gpu: Gpu
    compiled: Compiled | None
    failures: list[str]

    @property
    def name(self) -> str:
        """The kernel as tables name it."""
        return self.launch.kernel.__name__.lstrip("_")

    def cells(self) -> list[str]:
        """The columns of the tables."""
        facts = self.compiled
        names = [self.name, self.launch.problem, self.gpu.architecture]
        if facts is None:
            return [*names, "does not compile", *[""] * 5]
        numbers = (facts.registers, facts.spills, facts.shared_bytes, facts.wide_loads)
        return [*names, *(f"{number:,}" for number in numbers), facts.matrix, f"{facts.instructions:,}"]


def main() -> int:
    """Compile and print; 1 where something fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write every fact there")
    parser.add_argument("--markdown", type=output_file, metavar="FILE", help="write the table there")
    options = parser.parse_args()

    launches = [(gpu, launch) for gpu in GPUS for launch in unique(launches_on(gpu))]
    results = [
        check(gpu, launch) for gpu, launch in track(launches, "Compiling", console=Console(stderr=True))
    ]

    print_table(results)
    CONSOLE.print(f"{machine('torch', 'triton')}; no GPU was used", soft_wrap=True)
    if options.json:
        options.json.write_text(json.dumps([as_json(result) for result in results], indent=1))
    if options.markdown:
        options.markdown.write_text("\n".join(markdown(results)) + "\n")
    failures = [
        f"{result.name}, {result.launch.problem}, {result.gpu.architecture}: {failure}"
        for result in results
        for failure in result.failures
    ]
    for failure in failures:
        print(failure, file=sys.stderr)
    if not failures:
        CONSOLE.print(f"{len(results)} kernels, every check holds.")
    return 1 if failures else 0


def launches_on(gpu: Gpu) -> Iterator[Launch]:
    """Every kernel in every configuration that its launcher chooses for bf16, and some in fp32 and fp16."""
    for num_classes in VOCABULARIES:
        for bias in (True, False):
            yield from launches_of_rows(gpu, torch.bfloat16, num_classes, bias)
    for num_classes in VOCABULARIES[-2:]:
        yield from launches_of_rows(gpu, torch.float32, num_classes, True)
    for bias in (True, False):
        yield from launches_of_tiles(gpu, torch.bfloat16, SIZE, bias)
    yield from launches_of_tiles(gpu, torch.bfloat16, ODD_SIZE, True)
    yield from launches_of_tiles(gpu, torch.float32, SIZE, True)
    yield from launches_of_rows(gpu, torch.float16, VOCABULARY, True)
    yield from launches_of_tiles(gpu, torch.float16, SIZE, True)
    yield from launches_of_sums(gpu)


def unique(launches: Iterable[Launch]) -> list[Launch]:
    """Launches that are compiled alike, once."""
    found: dict[tuple[str, ...], Launch] = {}
    for launch in launches:
        found.setdefault((launch.kernel.__name__, str(launch.source()), str(launch.options)), launch)
    return list(found.values())


def launches_of_rows(gpu: Gpu, dtype: torch.dtype, num_classes: int, has_bias: bool) -> list[Launch]:
    """The kernels over rows of logits [N, V]."""
    problem = f"{NAMES[dtype]} V={num_classes:,}{' bias' if has_bias else ''}"
    needs = {"_row_on_chip": (WIDE,), "_row_in_loop": (WIDE,)}
    logits = empty_logits(ROWS, num_classes, torch.empty(0, dtype=dtype, device="meta"))
    bias = torch.empty(num_classes, dtype=dtype, device="meta") if has_bias else None
    with recording(problem, gpu.target, gpu.processors, needs) as launches:
        triton_rows.softmax_minus_onehot_(logits, bias, labels_of_rows())
    return launches


def launches_of_tiles(gpu: Gpu, dtype: torch.dtype, size: int, has_bias: bool) -> list[Launch]:
    """The kernels that keep no logits, for hidden [N, D]."""
    problem = f"{NAMES[dtype]} D={size:,}{' bias' if has_bias else ''}"
    needs = () if dtype == torch.float32 else (MATRIX,)
    hidden = torch.empty(ROWS, size, dtype=dtype, device="meta")
    weight = torch.empty(VOCABULARY, size, dtype=dtype, device="meta")
    bias = torch.empty(VOCABULARY, dtype=dtype, device="meta") if has_bias else None
    of_kernels = {"_partial_log_sum_exp": needs, "_gradient_of_classes": needs}
    with recording(problem, gpu.target, gpu.processors, of_kernels) as launches:
        log_sum_exps, _ = triton_tiles.log_sum_exp(hidden, weight, bias, labels_of_rows())
        gradient = empty_logits(ROWS, TILE, hidden)
        triton_tiles.gradient_tile_(hidden, weight, bias, labels_of_rows(), log_sum_exps, TILE, gradient)
    for launch in launches:
        if launch.kernel.__name__ == "_combine":
            launch.problem = "splits"  # it sees neither types nor D
    return launches


def launches_of_sums(gpu: Gpu) -> list[Launch]:
    """The small kernels over losses of rows and of tasks."""
    losses = torch.empty(ROWS, device="meta")
    with recording("fp32", gpu.target, gpu.processors, {}) as launches:
        triton_rows.task_sums(losses, losses.to(torch.uint8), labels_of_rows(), TASKS)
        triton_weights.softmax_weights(losses[:TASKS], 1.0, losses[:TASKS] > 0)
    with recording("fp64", gpu.target, gpu.processors, {}) as in_double:
        triton_weights.softmax_weights(losses[:TASKS].double(), 1.0, losses[:TASKS] > 0)
    return launches + in_double


def labels_of_rows() -> torch.Tensor:
    """[N] int64 without memory."""
    return torch.empty(ROWS, dtype=torch.int64, device="meta")


def check(gpu: Gpu, launch: Launch) -> Result:
    """Compile, and say what is wrong."""
    try:
        compiled = compile_launch(launch)
    except Exception as error:  # Triton's own, LLVM's, ptxas'
        return Result(launch, gpu, None, [f"does not compile: {str(error).strip().splitlines()[-1]}"])
    limit = launch.target.shared_bytes
    failures = {
        f"{compiled.spills} instructions spill registers": compiled.spills > 0,
        f"{compiled.shared_bytes:,} bytes of shared memory, limit {limit:,}": compiled.shared_bytes > limit,
        f"no {WIDE}": WIDE in launch.needs and not compiled.wide_loads,
        f"no {MATRIX}": MATRIX in launch.needs and not compiled.matrix,
    }
    return Result(launch, gpu, compiled, [failure for failure, holds in failures.items() if holds])


def print_table(results: list[Result]) -> None:
    """A row for each kernel, problem and GPU."""
    table = Table(title="Triton kernels as compiled", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in (*COLUMNS[:3], "matrix") else "right")
    for result in results:
        table.add_row(*result.cells(), style="red" if result.failures else None)
    print_whole(table)


def markdown(results: list[Result]) -> Iterator[str]:
    """The table for docs: registers / shared bytes, kernels and problems down, GPUs across."""
    yield "| kernel | problem | warps | " + " | ".join(gpu.architecture for gpu in GPUS) + " |"
    yield "|---|---|---|" + "---|" * len(GPUS)
    rows: dict[tuple[str, str], dict[Gpu, Result]] = {}
    for result in results:
        rows.setdefault((result.name, result.launch.problem), {})[result.gpu] = result
    for (name, problem), of_gpus in rows.items():
        warps = dict.fromkeys(str(result.launch.options["num_warps"]) for result in of_gpus.values())
        cells = (cell(of_gpus.get(gpu)) for gpu in GPUS)
        yield f"| {name} | {problem} | {', '.join(warps)} | " + " | ".join(cells) + " |"


def cell(result: Result | None) -> str:
    """Registers and shared bytes; a dash where nothing was compiled that is not in another row."""
    facts = result.compiled if result else None
    return f"{facts.registers} / {facts.shared_bytes:,}" if facts else "–"


def as_json(result: Result) -> dict[str, object]:
    """One object a launch."""
    return {
        "kernel": result.name,
        "problem": result.launch.problem,
        "target": result.gpu.architecture,
        "grid": result.launch.grid,
        "options": result.launch.options,
        "compiled": asdict(result.compiled) if result.compiled else None,
        "failures": result.failures,
    }


if __name__ == "__main__":
    sys.exit(main())

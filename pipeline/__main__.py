"""The program `pipeline`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from data_prep.errors import is_first_of_node, run_program
from pipeline.slurm.command import app as slurm
from pipeline.slurm.queue_commands import app as queue_commands
from pipeline.tasks.command import app as tasks

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Pre-training that holds up on the worst downstream task.",
    epilog="Example: pipeline pretrain configs/tiny.yaml data.path=shards",
)


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
    local_rank: Annotated[
        int, typer.Option("--local_rank", hidden=True)
    ] = 0,  # the deepspeed launcher adds it
) -> None:
    """Options of every command."""


@app.command(epilog="Example: torchrun --nproc-per-node 2 -m pipeline pretrain configs/tiny.yaml seed=1")
def pretrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Run file (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override keys of the run file.")
    ] = None,
    deepspeed: Annotated[
        Path | None, typer.Option(help="DeepSpeed JSON, the same as deepspeed=PATH.")
    ] = None,
) -> None:
    """Train a model, from the run's newest checkpoint if it has one. `pipeline keys` lists the keys."""
    from pipeline.engine.stop import leave_when_told
    from pipeline.paths import refuse_wrong_paths
    from pipeline.run_file import load_config

    leave_when_told()
    extra = [f"deepspeed={deepspeed}"] if deepspeed else []
    run_config = load_config(config, [*(overrides or []), *extra])
    refuse_wrong_paths(run_config)

    # Only now what takes seconds to import: a typo is told at once.
    from pipeline.engine.launch import RanksApartError
    from pipeline.engine.pretrain import pretrain as run_pretraining
    from pipeline.preparation import prepare

    try:
        job = prepare(run_config)
    except RanksApartError as error:
        print(f"pipeline: error: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
    run_pretraining(job)


app.add_typer(tasks, name="tasks")
app.add_typer(queue_commands)
app.add_typer(slurm, name="slurm")


@app.command(epilog="Example: pipeline tail runs/first --follow")
def tail(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    num_lines: Annotated[int, typer.Option("--num-lines", "-n", min=1, help="Lines to show.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show new lines until the last step, or Ctrl-C.")
    ] = False,
) -> None:
    """The last lines of a run in training or finished, its warnings, and the time left."""
    from itertools import chain

    from pipeline.tail import RunView
    from pipeline.tail import follow as new_lines

    view = RunView(run)
    try:
        for line in chain(view.last_lines(num_lines), new_lines(view) if follow else ()):
            print(line, flush=True)
    except KeyboardInterrupt:  # the way to stop following
        print()


@app.command(
    epilog="Example: pipeline plan configs/bert-large.yaml --world-size 64 --mfu 0.4 --peak-tflops 989 "
    "--gpu-memory 80"
)
def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Run file (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override keys of the run file.")
    ] = None,
    world_size: Annotated[int, typer.Option(min=1, help="Ranks: one per GPU, or processes.")] = 1,
    device: Annotated[Literal["gpu", "cpu"], typer.Option(help="What a rank computes on.")] = "gpu",
    gpu_memory: Annotated[
        float | None, typer.Option(min=0, help="GiB per rank; names the smallest ZeRO stage that fits.")
    ] = None,
    throughput: Annotated[
        float | None, typer.Option(min=0, help="Tokens per second and rank, as measured; gives the time.")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(min=0, max=1, help="Or the part of --peak-tflops that is reached.")
    ] = None,
    peak_tflops: Annotated[
        float | None, typer.Option(min=0, help="Of a rank's device, in the run's precision.")
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(min=0.001, help="GB/s per rank, as nccl-tests' busbw; how long a step communicates."),
    ] = None,
    latency: Annotated[float, typer.Option(min=0, help="Microseconds of a message per hop.")] = 10,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="Pieces, where there are no shards yet; 128 by default.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures to this JSON file too.")
    ] = None,
) -> None:
    """What a run will take, without data, GPU or training: FLOPs, memory and traffic per ZeRO stage, time."""
    import json

    from rich.console import Console

    from data_prep.durable import write_durably
    from pipeline.run_file import load_config

    run_config = load_config(config, overrides or [])

    from pipeline.engine import workarounds

    workarounds.before_import()
    from pipeline.engine.ds_config import given_ds_config
    from pipeline.plan.duration import speed_of
    from pipeline.plan.network import Network
    from pipeline.plan.report import plan_to_dict, print_plan
    from pipeline.plan.run_plan import plan_run
    from pipeline.plan.text_case import planned_case

    speed = speed_of(throughput, mfu, peak_tflops)
    ds_settings = given_ds_config(run_config, world_size)
    case = planned_case(run_config, sequence_length)
    made = plan_run(run_config, ds_settings, case, world_size, device, speed)
    network = Network(bandwidth, latency / 1e6) if bandwidth else None
    print_plan(made, Console(highlight=False), gpu_memory, network)
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(json_file, json.dumps(plan_to_dict(made, network), indent=2) + "\n")


@app.command(
    epilog="Example: pipeline evaluate runs/average runs/minimax --data shards --out comparison.json"
)
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(metavar="CHECKPOINT", help="Checkpoints, or runs, whose newest checkpoint is taken."),
    ],
    data: Annotated[Path, typer.Option(help="Folder of shards that data_prep wrote.")],
    split: Annotated[Literal["test", "validation"], typer.Option(help="Held-out split.")] = "test",
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the figures to this JSON file too.")
    ] = None,
) -> None:
    """Held-out loss and accuracy per task, on the same masked words for every checkpoint."""
    import json

    from rich.console import Console

    from data_prep.durable import write_durably
    from pipeline.paths import refuse_below_a_file, refuse_wrong_folder

    if out:
        refuse_below_a_file(out, "--out")
    refuse_wrong_folder(data, "--data", "shards")
    for checkpoint in checkpoints:
        refuse_wrong_folder(checkpoint, "CHECKPOINT", "checkpoint")

    from pipeline.compare import compare_checkpoints

    comparison = compare_checkpoints(checkpoints, data, split)
    console = Console()
    table = comparison.to_table()
    natural_width = Console(width=1_000).measure(table).maximum
    Console(width=max(console.width, natural_width)).print(table)  # never cut a figure
    for remark in comparison.remarks():
        console.print(remark, highlight=False)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_durably(out, json.dumps(comparison.to_dict(), indent=2) + "\n")


@app.command(epilog="Example: pipeline study studies/tiny.yaml --out runs/tiny_study --jobs 2")
def study(
    source: Annotated[Path, typer.Argument(metavar="STUDY", help="Study file (YAML).")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of its runs and its report.")],
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, on a core each.")] = 1,
    part: Annotated[int | None, typer.Option(min=0, help="Do only this part of --num-parts.")] = None,
    num_parts: Annotated[int, typer.Option(min=1, help="Parts that share the work.")] = 1,
    missing: Annotated[
        bool,
        typer.Option(
            "--missing", help="Only print the parts that are not done, 0,3,7; nothing on stdout if all are."
        ),
    ] = False,
) -> None:
    """Train what a study file compares, seed by seed, score it on the same held-out words, and report.

    The same command goes on where it was stopped; when all runs are done it only writes the report again.
    """
    from pipeline.paths import refuse_below_a_file
    from pipeline.study.command import load_study, print_missing, run_study

    refuse_below_a_file(out, "--out")
    planned = load_study(source, out)
    if missing:
        print_missing(planned, num_parts)
    else:
        raise typer.Exit(run_study(planned, jobs, part, num_parts))


@app.command(epilog="Example: pipeline export runs/minimax exported/minimax")
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="Checkpoint, or run, whose newest checkpoint is taken."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write; it must not hold anything yet.")
    ],
) -> None:
    """Write a folder that transformers loads: AutoModelForMaskedLM, AutoTokenizer, fill-mask."""
    from pipeline.paths import refuse_wrong_folder

    refuse_wrong_folder(checkpoint, "CHECKPOINT", "checkpoint")

    from pipeline.engine.run_folder import find_checkpoint
    from pipeline.export import export as run_export

    found = find_checkpoint(checkpoint)
    run_export(found, out)
    print(f"{out}: {found}, for transformers' from_pretrained")


@app.command(epilog="Example: pipeline keys")
def keys(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/configuration.md.")
    ] = False,
) -> None:
    """The keys of a run file: default and meaning."""
    from rich.console import Console

    from pipeline.reference import keys_page, keys_table
    from pipeline.run_file import config_keys

    if markdown:
        print(keys_page(config_keys()), end="")
    else:
        Console().print(keys_table(config_keys()))


@app.command(epilog="Example: pipeline theory --out theory")
def theory(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the report, its figures and numbers.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the random instances and samples.")] = 0,
    max_steps: Annotated[int, typer.Option(min=1_000, help="Theorem 3.1: the largest K.")] = 100_000,
    num_tasks: Annotated[
        list[int] | None,
        typer.Option(
            min=2,
            help="Theorem 3.1 and Proposition 5.1: a T; repeat it for several.",
            show_default="2, 9, 81",
        ),
    ] = None,
) -> None:
    """Try the paper's theorems on problems whose constants are known: a page, figures, all numbers.

    Exit code 1: an inequality that must hold did not. Takes about a minute on one core.
    """
    from pipeline.paths import refuse_below_a_file

    refuse_below_a_file(out / "index.html", "--out")

    from pipeline.theory.report import examine_theory, write_report

    statements = examine_theory(seed, max_steps, sorted(set(num_tasks or [2, 9, 81])))
    write_report(statements, out, seed)
    for statement in statements:
        print(f"{statement.wording.title}\n    {statement.wording.verdict}")
        for check, holds in statement.checks.items():
            print(f"    {'ok    ' if holds else 'FAILED'}  {check}")
    print(f"{out / 'index.html'}: the report; results.json: every number")
    if not all(all(statement.checks.values()) for statement in statements):
        raise typer.Exit(1)


@app.command(epilog="Example: srun --gpus=1 pipeline doctor --out-dir /scratch/runs")
def doctor(
    out_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that runs go to, whose disk is measured.")
    ] = Path("runs"),
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings to this file too.")
    ] = None,
) -> None:
    """Try what pre-training needs on this machine, and say how to mend what fails.

    Exit code 1: something is broken that pre-training here cannot do without. Takes 10 to 20 seconds.
    """
    from pipeline.doctor.command import examine_machine

    if is_first_of_node():
        raise typer.Exit(examine_machine(out_dir, json_file))


def main() -> None:
    """Entry point."""
    # When a rank is lost torch prints stack frames of C++, around the line that names it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    run_program("pipeline", app)


if __name__ == "__main__":
    main()

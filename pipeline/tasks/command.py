"""`pipeline tasks`: ways to make a file for `data.tasks`, which says what masked pieces train on."""

from pathlib import Path
from typing import Annotated

import typer

from data_prep.errors import UserError
from pipeline.paths import refuse_below_a_file, refuse_wrong_folder

app = typer.Typer(
    no_args_is_help=True,
    help="Make a file for data.tasks: which task a masked piece belongs to in training.\n\n"
    "Each way shows what is in the tasks it made.",
    epilog="Example: pipeline tasks random shards --out tasks.json\n"
    "Then: pipeline pretrain CONFIG data.tasks=tasks.json masking.policy=random",
)


def _shards(folder: Path) -> Path:
    refuse_wrong_folder(folder, "SHARDS", "shards")
    return folder


def _run(folder: Path) -> Path:
    refuse_wrong_folder(folder, "RUN", "checkpoint")
    return folder


def _out(path: Path) -> Path:
    refuse_below_a_file(path, "--out")
    return path


ShardsArgument = Annotated[
    Path,
    typer.Argument(metavar="SHARDS", help="Folder of shards that data_prep wrote.", callback=_shards),
]
OutOption = Annotated[
    Path, typer.Option(metavar="FILE", dir_okay=False, help="JSON file to write.", callback=_out)
]


@app.command(
    epilog="Example: pipeline tasks merge shards --out merged.json \\\n"
    "content=verb,noun,adjective,adverb \\\n"
    "other=determiner,pronoun,preposition,conjunction,interjection"
)
def merge(
    shards: ShardsArgument,
    parts: Annotated[
        list[str],
        typer.Argument(metavar="TASK=A,B", help="A task, and the shards' tasks in it; or one YAML file."),
    ],
    out: OutOption,
) -> None:
    """Merge several of the shards' tasks into one. Each of the shards' tasks must stand in one."""
    from pipeline.tasks.merged import read_merge

    merged = read_merge(parts)

    from pipeline.tasks.maker import TaskMaker

    maker = TaskMaker(shards)
    maker.write(maker.merged(merged), out)


@app.command(epilog="Example: pipeline tasks random shards --out random.json --sizes-of merged.json")
def random(
    shards: ShardsArgument,
    out: OutOption,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
    sizes_of: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Tasks as large as those of this file."
        ),
    ] = None,
) -> None:
    """Draw pieces at random into tasks as large as those of the shards, or of another file."""
    if sizes_of and out.exists() and out.samefile(sizes_of):
        raise UserError(f"--out: {out} is the file of --sizes-of; name another")

    from pipeline.tasks.maker import TaskMaker

    maker = TaskMaker(shards)
    maker.write(maker.random(seed, sizes_of), out)


@app.command(
    epilog="Example: pipeline tasks loss-curves shards runs/average --out learned.json --num-tasks 9"
)
def loss_curves(
    shards: ShardsArgument,
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            exists=True,
            file_okay=False,
            help="Folder of a run that kept several checkpoints.",
            callback=_run,
        ),
    ],
    out: OutOption,
    num_tasks: Annotated[int, typer.Option(min=1, max=254, help="How many tasks.")],
    seed: Annotated[int, typer.Option(min=0, help="Of masks and k-means.")] = 0,
    num_sequences: Annotated[int, typer.Option(min=1, help="Training sequences to score, at most.")] = 20_000,
) -> None:
    """Group pieces that a run learned alike, by their mean losses at all its checkpoints."""
    from pipeline.tasks.maker import TaskMaker

    maker = TaskMaker(shards)
    maker.write(maker.from_loss_curves(run, num_tasks, num_sequences, seed), out)

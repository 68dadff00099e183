"""`pipeline submit` and `pipeline status`: a run's way into SLURM's queue, and how it fares there."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.slurm.command import ConfigArgument

app = typer.Typer()


@app.command(
    epilog="Example: pipeline submit configs/bert-large.yaml --nodes 16 --gpus-per-node 4 --gpu-memory 80 "
    "-- --qos=long"
)
def submit(
    config: ConfigArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Override keys of the run file; after -- options of sbatch."
        ),
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="Nodes.")] = None,
    elastic: Annotated[
        bool, typer.Option("--elastic", help="Start on fewer nodes, too, down to one.")
    ] = False,
    gpus_per_node: Annotated[
        str | None, typer.Option(metavar="[TYPE:]N", help="GPUs per node; each has a rank.")
    ] = None,
    ranks_per_node: Annotated[int | None, typer.Option(min=1, help="Ranks per node without GPUs.")] = None,
    cpus_per_rank: Annotated[int | None, typer.Option(min=1, help="Cores per rank.")] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0, help="GiB of a GPU; refuses a run that does not fit.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time limit of the job, as in [DAYS-]HH:MM:SS.")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="JOBID", help="Start when this job has ended well.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show it only.")] = False,
) -> None:
    """Check a run, show what it takes, and hand it to SLURM with slurm/pretrain.sh.

    What is not given is as the #SBATCH lines of that script say.
    """
    from rich.console import Console

    from pipeline.slurm.request import Wishes
    from pipeline.slurm.submit import submit as run_submit

    overrides = [word for word in words or [] if not word.startswith("-")]
    wishes = Wishes(
        nodes=nodes,
        elastic=elastic,
        ranks_per_node=ranks_per_node,
        gpus_per_node=gpus_per_node,
        cpus_per_rank=cpus_per_rank,
        time=time,
        partition=partition,
        account=account,
        after=after.partition(";")[0] if after else None,  # sbatch --parsable adds the cluster's name
        options=[word for word in words or [] if word.startswith("-")],
    )
    run_submit(config, overrides, wishes, gpu_memory, Console(), dry_run=dry_run)


@app.command(epilog="Example: pipeline status runs/first")
def status(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="Folders of runs; if none is given, those below runs/."),
    ] = None,
) -> None:
    """Where runs are: in SLURM's queue, and in their training.

    Without RUN: those that have a job, or were written to in the last three days.
    """
    from rich.console import Console

    from pipeline.slurm.status import print_status

    print_status(runs or [], Console())

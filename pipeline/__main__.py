"""The program `pipeline`."""

from pathlib import Path
from typing import Annotated

import typer

from data_prep.errors import run_program

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Pre-training that holds up on the worst downstream task.",
    epilog="Example: pipeline pretrain configs/tiny.yaml data.path=shards",
)


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,
    local_rank: Annotated[int, typer.Option("--local_rank", hidden=True)] = 0,  # the deepspeed launcher adds it
) -> None:
    """Options of every command."""


@app.command(
    epilog="Example: torchrun --nproc-per-node 2 -m pipeline pretrain configs/tiny.yaml data.path=shards seed=1"
)
def pretrain(
    config: Annotated[Path, typer.Argument(help="Run file (YAML).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override keys.")] = None,
    deepspeed: Annotated[Path | None, typer.Option(help="DeepSpeed JSON, the same as deepspeed=PATH.")] = None,
) -> None:
    """Train a model; goes on from the run's newest checkpoint if it has one. `pipeline keys` lists the keys."""
    import torch

    from pipeline.assembly import build_model, recipe_dict, text_data, text_recipe
    from pipeline.config import load_config
    from pipeline.engine.ds_config import load_ds_config
    from pipeline.engine.launch import join_ranks
    from pipeline.engine.pretrain import pretrain as run_pretraining

    extra = [f"deepspeed={deepspeed}"] if deepspeed else []
    run_config = load_config(config, [*(overrides or []), *extra])
    ds_settings = load_ds_config(run_config.deepspeed)
    data = text_data(run_config)
    recipe = text_recipe(run_config, data.shards)
    place = join_ranks()
    torch.manual_seed(run_config.seed)
    model = build_model(run_config, recipe)
    run_pretraining(run_config, ds_settings, data, model, recipe_dict(recipe), place)


def main() -> None:
    """Entry point."""
    run_program("pipeline", app)


if __name__ == "__main__":
    main()

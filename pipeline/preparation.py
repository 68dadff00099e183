"""From a run file to a job for the engine: what a rank can refuse alone is refused before the ranks join."""

import sys
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import is_first_of_node
from pipeline.assembly import TextRecipe, build_model, text_data, text_recipe, training_terms
from pipeline.config import RunConfig
from pipeline.data.interface import LossTerms
from pipeline.data.shards import Shards
from pipeline.data.text import TextData, task_quotas
from pipeline.data.word_tasks import with_hash_of_tasks
from pipeline.engine.activation_checkpointing import num_checkpointed
from pipeline.engine.ds_config import ds_settings_of
from pipeline.engine.job import Job
from pipeline.engine.launch import join_ranks, launched_rank, launched_world_size
from pipeline.engine.ranks import on_rank_zero
from pipeline.engine.resume import find_start, locate_start
from pipeline.engine.run_folder import is_checkpoint_of
from pipeline.models.text import TextModel
from pipeline.models.warm_start import load_folder
from pipeline.objectives import build_objective
from pipeline.plan.text_case import flops_per_token
from pipeline.references import with_losses, with_references


def prepare(config: RunConfig) -> Job:
    """The job of a run file, on a rank that has joined the others.

    Raises:
        UserError: a refusal, on all ranks alike.
        RanksApartError: the ranks did not find each other.
    """
    ds_settings = ds_settings_of(config, launched_world_size())
    # What the shards' manifest alone can refuse comes before their data, which may take long to reach.
    shards = Shards(config.data.path)
    config = with_hash_of_tasks(config)
    terms = training_terms(config, shards)
    recipe, start = find_recipe(config, shards)
    model = _fresh_model(config, recipe, terms, ds_settings)
    data = _data(config)
    # Only the first rank writes a log. The others have nothing to do meanwhile but to wait for it to join.
    flops = flops_per_token(config, shards, recipe) if launched_rank() == 0 else None
    folder = config.model.init_from
    place = join_ranks(config.timeout_s)
    # The losses alone: in all else the ranks are yet to be asked whether they agree.
    references = on_rank_zero(place, lambda: with_objective(config, data, start).objective.reference_losses)
    return Job(
        config=with_losses(config, references),
        ds_settings=ds_settings,
        data=data,
        model=model,
        model_recipe=recipe.model_dump(mode="json"),
        place=place,
        flops_per_token=flops,
        # Left to the engine: only when all ranks have joined do they agree whether the run begins.
        initialise=(lambda: str(load_folder(model.network, folder))) if folder else None,
    )


def find_recipe(config: RunConfig, shards: Shards) -> tuple[TextRecipe, Path | None]:
    """The recipe of a run's model, and the checkpoint that the run goes on from.

    Raises:
        UserError: the run may not start, or not with these shards.
    """
    recipe = text_recipe(config, shards, locate_start(config))
    task_quotas(config.data.quota, shards.manifest)
    return recipe, find_start(config, recipe.model_dump(mode="json"))


def with_objective(config: RunConfig, data: TextData, start: Path | None) -> RunConfig:
    """The run file with all that its objective needs; a run goes on from its own `start` with what it had.

    Raises:
        UserError: weights or references that are not there, or do not fit the tasks.
    """
    own_start = start if start and is_checkpoint_of(config.run_dir, start) else None
    objective = with_references(config.objective, data.shards, data.word_tasks, own_start)
    build_objective(objective, data.terms.tasks, config.num_planned_steps)
    return with_losses(config, objective.reference_losses)


def _fresh_model(
    config: RunConfig, recipe: TextRecipe, terms: LossTerms, ds_settings: dict[str, Any]
) -> TextModel:
    """The same on all ranks; with as many layers as the DeepSpeed JSON would have run again."""
    torch.manual_seed(config.seed)
    model = build_model(config, recipe, terms)
    num_checkpointed(model.layers(), ds_settings, config.deepspeed)
    return model


def _data(config: RunConfig) -> TextData:
    """The training data, with a warning about tasks that have none."""
    data = text_data(config)
    if data.absent_tasks and is_first_of_node():
        absent = ", ".join(data.absent_tasks)
        print(f"pipeline: warning: no training sequences of {absent}: training without", file=sys.stderr)
    return data

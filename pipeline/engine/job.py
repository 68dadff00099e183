"""What a run is made of, before there is an engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.config import RunConfig
from pipeline.data.interface import TrainData
from pipeline.engine.launch import Place
from pipeline.models.interface import TaskModel


@dataclass(frozen=True)
class Job:
    """What is to be trained, and where.

    `ds_settings` is the checked DeepSpeed JSON. `model` is initialised alike on all ranks; `model_recipe` is
    what it was built from beside the configuration, and is kept in checkpoints. `flops_per_token`, those of a
    forward and backward pass, are for the log, which says nothing of FLOPs where they are not counted.
    `initialise` is called where the run begins at step 0: it gives parameters of `model` other values, and
    says in a line what it did.
    """

    config: RunConfig
    ds_settings: dict[str, Any]
    data: TrainData
    model: TaskModel
    model_recipe: dict[str, Any]
    place: Place
    flops_per_token: float | None = None
    initialise: Callable[[], str] | None = None

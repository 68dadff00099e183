"""What ranks tell each other beside gradients: small objects, and decisions that one of them makes."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from data_prep.errors import UserError, one_line
from pipeline.engine.launch import Place

Result = TypeVar("Result")


def gather(value: Any, place: Place, group: Any = None) -> list[Any]:
    """The value of every rank, by rank; all call it."""
    values = [value] * place.world_size
    if place.world_size > 1:
        dist.all_gather_object(values, value, group=group)
    return values


def on_rank_zero(place: Place, action: Callable[[], Result]) -> Result:
    """Decide on rank 0 and tell all ranks, a refusal included: looking at files is no collective act."""
    outcome: list[Any] = [None, None]
    if place.rank == 0:
        try:
            outcome[0] = action()
        except (UserError, OSError) as error:
            outcome[1] = one_line(error)
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise UserError(outcome[1])
    return outcome[0]

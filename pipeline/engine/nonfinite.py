"""What went wrong in a step whose update was not made: the tasks, and the sequences that may be the cause."""

from typing import Any

import torch
import torch.distributed as dist

from pipeline.data.interface import TrainData
from pipeline.engine.guard import Refusal
from pipeline.engine.launch import Place
from pipeline.engine.metrics import training_record
from pipeline.engine.step import StepResult

MOST_IN_A_ROW = 10
"""Steps without an update, one after the other, that a run goes on after: more data will not mend it."""


def incident_record(step: int, result: StepResult, data: TrainData, place: Place) -> dict[str, Any]:
    """A refused step in plain values, for `nonfinite.jsonl`; all ranks ask together.

    Args:
        step: the step's number, counted from 1.
        result: what it gave.
        data: where its sequences have their ids.
        place: this process.
    """
    assert result.refusal is not None
    own = {index: data.sequence_ids(step - 1, index) for index in result.suspects}
    of_ranks: list[Any] = [own] * place.world_size
    if place.world_size > 1:
        dist.all_gather_object(of_ranks, own)
    suspects = {index: ids for of_rank in of_ranks for index, ids in of_rank.items()}
    record = training_record(result, data.terms)
    return {
        "step": step,
        "reason": result.refusal.value,
        "tasks": _tasks_at_fault(result, data.terms.names, record["worst_task"]),
        "average_loss": record["average_loss"],
        "task_loss": record["task_loss"],
        "grad_norm": record["grad_norm"],
        "sequences": {str(index): suspects[index] for index in sorted(suspects)},
    }


def _tasks_at_fault(result: StepResult, names: tuple[str, ...], worst_task: str | None) -> list[str]:
    """Those with a loss that is no number, or the worst where it is a spike; a gradient names none."""
    if result.refusal is Refusal.LOSS:
        finite = torch.isfinite(result.sums).tolist()
        return [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
    return [worst_task] if result.refusal is Refusal.SPIKE and worst_task else []

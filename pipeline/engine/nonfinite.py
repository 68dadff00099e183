"""What becomes of a run whose step had no update, and what is written down about it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from pipeline.config import RunConfig
from pipeline.data.interface import TrainData
from pipeline.engine.checkpoint import check_files, read_manifest
from pipeline.engine.figures import training_record
from pipeline.engine.guard import Refusal
from pipeline.engine.launch import Place
from pipeline.engine.ranks import gather, on_rank_zero
from pipeline.engine.run_folder import complete_checkpoints, step_of
from pipeline.engine.step import StepResult

_MOST_IN_A_ROW = 10
"""Steps without an update, one after the other, that a run goes on after: more data will not mend it."""


@dataclass(frozen=True)
class Response:
    """What a run does after a step without an update; `why` is for people."""

    action: Literal["stop", "skip", "rollback"]
    why: str
    back_to: Path | None = None


def respond(config: RunConfig, num_in_a_row: int, place: Place) -> Response:
    """The answer to the last of so many steps in a row without an update, the same on all ranks.

    The second one in a row goes back a checkpoint further: the newest is then no better than what is.
    """
    if num_in_a_row > _MOST_IN_A_ROW:
        return Response("stop", f"{num_in_a_row} steps in a row had no update")
    if config.on_nonfinite == "stop":
        return Response("stop", "its update is not made")
    if config.on_nonfinite == "skip":
        return Response("skip", "its update is skipped")
    checkpoint = on_rank_zero(place, lambda: _checkpoint_to_go_back_to(config.run_dir, num_in_a_row))
    if checkpoint is None:
        return Response("skip", "its update is skipped: there is no checkpoint yet to go back to")
    why = f"back to the parameters of step {step_of(checkpoint)}, on with the next data"
    return Response("rollback", why, checkpoint)


def _checkpoint_to_go_back_to(run_dir: Path, num_in_a_row: int) -> Path | None:
    checkpoints = complete_checkpoints(run_dir)[-num_in_a_row:]
    if not checkpoints:
        return None
    check_files(checkpoints[0], read_manifest(checkpoints[0]))
    return checkpoints[0]


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
    suspects = {index: ids for of_rank in gather(own, place) for index, ids in of_rank.items()}
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

"""Held-out losses of a run in training."""

from typing import Any

from pipeline.data.interface import HeldOut
from pipeline.engine.launch import Place
from pipeline.evaluation import average_loss, held_out_totals, task_figures, worst_task


def validation_record(engine: Any, held_out: HeldOut, step: int, place: Place) -> dict[str, Any]:
    """A line of `validation.jsonl`; all ranks evaluate together."""
    engine.eval()
    totals = held_out_totals(
        lambda inputs: engine(inputs, score=True),
        held_out,
        place.device,
        place.rank,
        place.world_size,
    )
    figures = task_figures(totals, held_out.term_names, with_intervals=False)
    tasks = {name: figures[name] for name in held_out.task_names if name in figures}
    worst = worst_task(tasks)
    return {
        "step": step,
        "average_loss": average_loss(tasks),
        "worst_task": worst,
        "worst_loss": tasks[worst].loss.value if worst else None,
        "task_loss": {name: figure.loss.value for name, figure in figures.items()},
        "task_accuracy": {name: figure.accuracy.value for name, figure in figures.items()},
        "task_count": {name: figure.count for name, figure in figures.items()},
        "mask_hash": held_out.mask_hash,
    }

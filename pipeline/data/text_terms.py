"""The loss terms of text: tasks of masked words, words without a task, next-sentence prediction."""

from collections.abc import Iterable

from data_prep.errors import UserError, nearest
from pipeline.config import MaskingConfig, ObjectiveConfig
from pipeline.data.interface import LossTerms

NSP = "nsp"
"""The loss term of next-sentence prediction."""
UNTAGGED = "untagged"
"""The loss term of masked words that belong to no task (masking.policy random)."""


def loss_terms(task_names: Iterable[str], masking: MaskingConfig, objective: ObjectiveConfig) -> LossTerms:
    """The masked-word tasks, then untagged words where they are masked, then next-sentence prediction.

    Raises:
        UserError: `objective.tasks` names a task that is not there.
    """
    terms: dict[str, float | None] = dict.fromkeys(task_names)
    untasked = UNTAGGED if masking.policy == "random" else None
    if untasked:
        terms[untasked] = 0.0
    if objective.nsp != "off":
        terms[NSP] = objective.nsp_weight if objective.nsp == "auxiliary" else None
    if objective.tasks is not None:
        tasks = [name for name, weight in terms.items() if weight is None]
        for task in objective.tasks:
            if task not in tasks:
                raise UserError(f'objective.tasks: unknown task "{task}"{nearest(task, tasks)}')
        terms |= dict.fromkeys(set(tasks) - set(objective.tasks), 0.0)
    return LossTerms(tuple(terms), tuple(terms.values()), untasked)

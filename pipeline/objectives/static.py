"""Fixed weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from data_prep.errors import UserError, nearest
from pipeline.objectives.interface import Objective, TaskStats


class Static(Objective):
    """c_t = w_t / Σ_s w_s, given: unitary scalarisation, a strong baseline once tuned (arXiv 2201.04122).

    Descends Σ w_t L_t in one pass, without state. It fails where the right weights change in training, and
    needs a search over T − 1 numbers.

    Args:
        weights: task → weight ≥ 0, one of them above 0; a task without one is not trained.
        task_names: the T tasks.

    Raises:
        UserError: a weight for an unknown task.
    """

    def __init__(self, weights: Mapping[str, float], task_names: Sequence[str]) -> None:
        super().__init__()
        for task in weights if task_names else ():  # a plan knows no names
            if task not in task_names:
                known = nearest(task, task_names)
                raise UserError(f'objective.weights: "{task}" is no task of the objective{known}')
        given = torch.tensor([weights.get(task, 0.0) for task in task_names], dtype=torch.float64)
        self._weights: Tensor
        self.register_buffer("_weights", given, persistent=False)

    def reads_losses(self, step: int) -> bool:
        """Never."""
        return False

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] the weights of the valid tasks; they sum to 1 where one of these has a weight."""
        weights = torch.where(stats.valid, self._weights, 0.0)
        return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

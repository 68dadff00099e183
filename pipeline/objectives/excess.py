"""The worst-case loss above what cannot be learned."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from data_prep.errors import UserError
from pipeline.objectives.interface import Objective, TaskStats
from pipeline.objectives.minimax import Minimax


class Excess(Objective):
    """`minimax` on L_t − r_t: c_t ∝ f_t^τ exp(α (L_t − r_t)), for references r_t in nats.

    Descends (1/α) log Σ f_t^τ exp(α (L_t − r_t)). Tasks differ in their irreducible entropy, nouns from
    determiners by 5 nats, so raw minimax may only ever look at nouns; with r_t the loss that a good model
    has, or the entropy of the unigram distribution, the worst task is the one that is furthest from it.

    Cost as `minimax`. It fails with its references: those of a weak model at a task hide it, and that of a
    hard task learned badly counts as entropy.

    Args:
        minimax: the rule on what is left.
        references: task → nats.
        task_names: the T tasks.

    Raises:
        UserError: a task without a reference.
    """

    def __init__(self, minimax: Minimax, references: Mapping[str, float], task_names: Sequence[str]) -> None:
        super().__init__()
        missing = [task for task in task_names if task not in references]
        if missing:
            raise UserError(
                f"objective.reference: no loss of {', '.join(missing)}; add it, or name the other tasks in "
                "objective.tasks"
            )
        self._minimax = minimax
        self._references: Tensor
        values = torch.tensor([references[task] for task in task_names], dtype=torch.float64)
        self.register_buffer("_references", values, persistent=False)

    def reads_losses(self, step: int) -> bool:
        """Always."""
        return self._minimax.reads_losses(step)

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] those of minimax; they sum to 1."""
        return self._minimax.coefficients(replace(stats, losses=stats.losses - self._references))

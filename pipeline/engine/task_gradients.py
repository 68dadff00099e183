"""The gradient of every task at one layer that all go through, out of the step's own backward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.interface import TaskModel


class TaskGradients:
    """Sums up ∇S_t, the gradients of the tasks' loss sums at the weight of the shared layer.

    Of a linear layer that takes rows x_i to z_i the weight's gradient is Σ dz_i x_iᵀ. Where every row is of
    one task, the rows of task t alone make that of S_t, times the factor by which S_t enters what is
    back-propagated: coefficients, the engine's averaging, the loss scale of fp16. Autograd tells that factor
    as the gradient of S_t, so it is divided out whatever it is made of.

    It costs no pass, and T products of the size of the layer's own. Rows are whole on their rank at every
    ZeRO stage.

    Args:
        model: names the layer, and the terms of its rows.
        tasks: the terms that are tasks, T.
    """

    def __init__(self, model: TaskModel, tasks: Sequence[int]) -> None:
        self._model = model
        self._tasks = tasks
        self._rows: tuple[Tensor, Tensor] | None = None
        self._total: Tensor | float = 0.0
        model.shared_layer().register_forward_hook(self._keep_rows)

    def follow(self, inputs: dict[str, Tensor], sums: Tensor) -> None:
        """Have the backward pass from the loss sums [M] of a micro-batch add to the gradients.

        Args:
            inputs: what the model has just been called with.
            sums: what it returned.
        """
        assert self._rows is not None, "the model has not called its shared layer"
        (rows, outputs), self._rows = self._rows, None
        terms = self._model.row_terms(inputs)
        factors: list[Tensor] = []
        sums.register_hook(factors.append)
        outputs.register_hook(lambda gradient: self._add(rows, gradient, terms, factors[0]))

    def take(self) -> Tensor:
        """[T, D_out, D_in] fp32: ∇S_t of this rank since the last call; 0 where its factor is."""
        total, self._total = self._total, 0.0
        assert isinstance(total, Tensor), "no backward pass was followed"
        return total

    def _keep_rows(self, _: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        if outputs.requires_grad:
            self._rows = inputs[0].detach(), outputs

    def _add(self, rows: Tensor, gradient: Tensor, terms: Tensor, factors: Tensor) -> None:
        """Of rows [N, D_in], the gradient of their outputs [N, D_out], and the terms [N] of both."""
        divided = gradient.float() * torch.where(factors == 0, 0.0, 1 / factors)[terms][:, None]
        # Masked, not picked: only the device knows how many rows a task has, and would be waited for.
        of_tasks = [(divided * (terms == task)[:, None]).T @ rows.float() for task in self._tasks]
        self._total = self._total + torch.stack(of_tasks)

"""The optimizer of what an objective learns."""

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPS = 1e-8


class Adam(nn.Module):
    """Adam (Kingma and Ba 2015) for T numbers, one per task, without weight decay; β = (0.9, 0.999).

    An absent task has no gradient, which is not gradient 0: its moments and its number stay. torch's Adam
    would move it on.
    """

    def __init__(self, num_tasks: int, lr: float) -> None:
        super().__init__()
        self._lr = lr
        self._mean: Tensor
        self._square: Tensor
        self._num_updates: Tensor
        for name in ("_mean", "_square", "_num_updates"):
            self.register_buffer(name, torch.zeros(num_tasks, dtype=torch.float64))

    def change(self, gradient: Tensor, present: Tensor) -> Tensor:
        """[T] what to add for a gradient [T]; 0 where not `present` [T]."""
        self._num_updates = self._num_updates + present
        self._mean = torch.where(present, torch.lerp(gradient, self._mean, _BETAS[0]), self._mean)
        self._square = torch.where(present, torch.lerp(gradient**2, self._square, _BETAS[1]), self._square)
        num_updates = self._num_updates.clamp(min=1)
        mean = self._mean / (1 - _BETAS[0] ** num_updates)
        square = self._square / (1 - _BETAS[1] ** num_updates)
        return torch.where(present, -self._lr * mean / (square.sqrt() + _EPS), 0.0)

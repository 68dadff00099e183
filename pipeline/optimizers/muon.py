"""Muon (Jordan et al. 2024): hidden matrices move along their orthogonalised momentum, all else by AdamW.

As torch.optim.Muon has it: Nesterov momentum, five Newton-Schulz iterations, decoupled decay, a step of
η √max(1, rows / columns). That takes whole matrices, brought together from where ZeRO has put their pieces.

DeepSpeed 0.19.8 has a Muon for ZeRO, too. At stages 1 to 3 it makes the update before the gradients' norm is
taken, so that clipping cuts the update, and moves the momentum even in a step whose update is then refused.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from pipeline.optimizers.matrices import MatrixExchange
from pipeline.optimizers.placement import Placement, WholeParameterOptimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that Newton-Schulz iterates: steepest at 0, and near 1 it stays within 0.7 to 1.2."""
_NUM_ITERATIONS = 5
_LEAST_NORM = 1e-7


class Muon(WholeParameterOptimizer):
    """Muon for the group `hidden`, with `lr` and `weight_decay`; torch's AdamW for `others`, with its keys.

    Args:
        hidden: whose parameters are all matrices.
        others: groups of all else.
        num_stacked: of each weight of `hidden` the number of matrices [R, C] that it stacks to [M·R, C].
        momentum: decay of the gradients' moving average.
        dtype: in which matrices are multiplied; all else is in fp32.
    """

    def __init__(
        self,
        hidden: dict[str, Any],
        others: list[dict[str, Any]],
        num_stacked: Mapping[nn.Parameter, int],
        momentum: float,
        dtype: torch.dtype,
    ) -> None:
        self._num_stacked = [num_stacked.get(p, 0) for group in (*others, hidden) for p in group["params"]]
        self._adamw = AdamW([{**group, "is_hidden": False} for group in others], fused=True)
        hidden = {**hidden, "momentum": momentum, "is_hidden": True}
        super().__init__([*self._adamw.param_groups, hidden], {})
        self._adamw.state = self.state
        self._dtype = dtype

    def place(self, placements: dict[Tensor, Placement]) -> None:
        """Take the vectors of `placements`, and decide which rank puts which cut matrix together."""
        super().place(placements)
        shapes = [
            torch.Size((number, shape[0] // number, shape[1])) if number else shape
            for number, shape in zip(self._num_stacked, self.shapes, strict=True)
        ]
        self._exchanges = {flat: MatrixExchange(placement, shapes) for flat, placement in placements.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """As every optimizer of whole parameters; AdamW leaves the gradients as they are."""
        # At stages 1 and 2 DeepSpeed steps a group at a time, which it makes the only one; with
        # offload_optimizer the others have their gradients by then, and would move more than once.
        self._adamw.param_groups = [group for group in self.param_groups if not group["is_hidden"]]
        self._adamw.step()
        super().step(closure)

    def _update(self, flat: Tensor, group: dict[str, Any]) -> None:
        if not group["is_hidden"]:  # AdamW has moved it
            return
        assert flat.grad is not None
        momentum = self._next_state(flat, "momentum_buffer")["momentum_buffer"]
        momentum.lerp_(flat.grad, 1 - group["momentum"])
        update = flat.grad.lerp_(momentum, group["momentum"])
        self._exchanges[flat].replace_each(update, self._direction)
        flat.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _direction(self, stacked: Tensor) -> Tensor:
        """Of a weight's matrices [M, R, C], each for itself."""
        _, num_rows, num_columns = stacked.shape
        directions = torch.stack([orthogonalize(matrix, self._dtype) for matrix in stacked])
        return directions.mul_(math.sqrt(max(1, num_rows / num_columns)))


def orthogonalize(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring the singular values of a matrix [R, C] near 1 by Newton-Schulz, computed in `dtype`."""
    num_rows, num_columns = matrix.shape
    wide = matrix.mT if num_rows > num_columns else matrix
    x = (wide / wide.norm().clamp(min=_LEAST_NORM)).to(dtype)
    a, b, c = _COEFFICIENTS
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if num_rows > num_columns else x).to(matrix.dtype)

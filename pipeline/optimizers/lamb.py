"""LAMB (You et al. 2020, Algorithm 2): Adam's direction, as long as the parameter that it changes.

With r the bias-corrected direction of Adam and λ the decay, a parameter x moves by η ‖x‖ / ‖r + λx‖ (r + λx);
the paper's φ is the identity. The norms are those of whole parameters, wherever their elements lie.

Vectors (biases, norms) move as under AdamW, their ratio is 1. So have it Google's code, which excludes from
adaptation what does not decay, and NVIDIA's FusedLAMB.
"""

from typing import Any

import torch
from torch import Tensor

from pipeline.optimizers.placement import Placement, WholeParameterOptimizer


class Lamb(WholeParameterOptimizer):
    """LAMB for groups with `lr`, `weight_decay` and, where the ratio is to be 1, `adapts` False."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps, "adapts": True})

    def _update(self, flat: Tensor, group: dict[str, Any]) -> None:
        placement = self.placement_of(flat)
        update = self._adam_direction(flat, group, placement)
        if group["adapts"]:
            self._make_as_long_as_parameters(update, flat, placement)
        flat.add_(update, alpha=-group["lr"])

    def _adam_direction(self, flat: Tensor, group: dict[str, Any], placement: Placement) -> Tensor:
        """Put r + λx in the gradient's place."""
        assert flat.grad is not None
        state = self._next_state(flat, "exp_avg", "exp_avg_sq")
        beta1, beta2 = group["betas"]
        correction1, correction2 = 1 - beta1 ** state["step"], 1 - beta2 ** state["step"]
        for piece in placement.own:
            gradient, values = piece.of(flat.grad), piece.of(flat)
            mean, square = piece.of(state["exp_avg"]), piece.of(state["exp_avg_sq"])
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            denominator = (square / correction2).sqrt_().add_(group["eps"])
            torch.div(mean, denominator, out=gradient).div_(correction1)
            gradient.add_(values, alpha=group["weight_decay"])
        return flat.grad

    def _make_as_long_as_parameters(self, update: Tensor, flat: Tensor, placement: Placement) -> None:
        """Scale each parameter's part of `update` by ‖x‖ / ‖update‖, or by 1 where either is 0."""
        squares = torch.zeros(2, len(self.shapes), dtype=torch.float64, device=placement.device)
        for piece in placement.own:
            for row, vector in zip(squares, (flat, update), strict=True):
                row[piece.number] = torch.linalg.vector_norm(piece.of(vector), dtype=torch.float64) ** 2
        of_parameter, of_update = placement.sum_over_ranks(squares).sqrt_().to(flat.device)
        has_both = (of_parameter > 0) & (of_update > 0)
        ratios = torch.where(has_both, of_parameter / of_update, 1.0).to(flat.dtype)
        for piece in placement.own:
            piece.of(update).mul_(ratios[piece.number])

"""Weights that even out how strongly, and how fast, tasks train a shared layer."""

import torch
from torch import Tensor

from pipeline.objectives.initial_losses import SMALLEST_LOSS, InitialLosses
from pipeline.objectives.interface import GRADIENTS, Objective, TaskStats

_SMALLEST_WEIGHT = 1e-3
"""A task without weight would leave no gradient to be measured, and never come back."""


class GradNorm(Objective):
    """c_t = w_t, learned so that w_t ‖∇L_t‖ is alike for all tasks, and larger for slow ones.

    Chen et al. (arXiv 1711.02257), see `updated_weights`; the gradients are those at the weight of the last
    layer that treats the tasks' rows one by one. There they cost T products of that layer in the one backward
    pass, and T of its matrices in memory and once a step between ranks; the original takes T backward passes.
    It moves w with its rate `lr` after each step. L_t(0) is the pooled loss of the objective's first
    `window` steps; the original's of the first one. It optimises no stated function of the losses.

    State: w and the first losses. The coefficients sum to the number of valid tasks: T times those of
    `average`, which matters to sgd and to gradient clipping. It fails where ‖∇L_t‖ is mostly noise: that norm
    grows as a task's labels get fewer, so a rare task has less weight, however badly it does.
    """

    needs = frozenset({GRADIENTS})

    def __init__(self, num_tasks: int, initial: InitialLosses, asymmetry: float, lr: float) -> None:
        super().__init__()
        self._initial = initial
        self._asymmetry = asymmetry
        self._lr = lr
        self._weights: Tensor
        self.register_buffer("_weights", torch.ones(num_tasks, dtype=torch.float64))

    def reads_losses(self, step: int) -> bool:
        """Never: w is what the steps before made it."""
        return False

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] w of the valid tasks."""
        return torch.where(stats.valid, self._weights, 0.0)

    def after_step(self, stats: TaskStats) -> None:
        """Move w by the tasks that were trained; fp16 may have no finite norm where it lowers its scale."""
        norms = stats.gradient_norms
        assert norms is not None
        self._initial.after_step(stats)
        self._weights = updated_weights(
            self._weights,
            norms,
            stats.losses.clamp(min=SMALLEST_LOSS),
            self._initial.of(stats),
            stats.present & (norms > 0) & torch.isfinite(norms),
            alpha=self._asymmetry,
            lr=self._lr,
        )


def updated_weights(
    weights: Tensor,
    gradient_norms: Tensor,
    losses: Tensor,
    initial_losses: Tensor,
    present: Tensor,
    *,
    alpha: float,
    lr: float,
) -> Tensor:
    """One step of GradNorm (Chen et al., arXiv 1711.02257, algorithm 1) on the task weights.

    With G_t = w_t g_t the norm of the weighted task's gradient, Ḡ its mean, and r_t = L_t / L_t(0) over the
    mean of that, w descends Σ |G_t − Ḡ r_t^α|, in which Ḡ r_t^α is a constant, along its gradient
    g_t sign(G_t − Ḡ r_t^α): a plain step, as in the paper's text, then Σ w = T. LibMTL has the logits of a
    softmax for w, moved by the model's optimizer. The paper does not say what becomes of a weight below 0;
    here it is 0.001, from which it may rise again.

    Args:
        weights: [T] w, which sums to T.
        gradient_norms: [T] g_t = ‖∇L_t‖ at the shared layer, of the task's mean loss and without its weight.
        losses: [T] L_t in nats.
        initial_losses: [T] L_t(0) in nats.
        present: [T] bool; the others keep their share, and count in no mean.
        alpha: ≥ 0: how strongly slow tasks are pulled along.
        lr: step on w, in 1 / (unit of g).

    Returns:
        [T] weights > 0 that sum to T.
    """
    num_present = present.sum().clamp(min=1)
    weighted = torch.where(present, weights * gradient_norms, 0.0)
    ratios = torch.where(present, losses / initial_losses, 0.0)
    rates = ratios / (ratios.sum() / num_present)
    targets = weighted.sum() / num_present * rates**alpha
    gradient = torch.where(present, gradient_norms * torch.sign(weighted - targets), 0.0)
    moved = (weights - lr * gradient).clamp(min=_SMALLEST_WEIGHT)
    return moved * (len(moved) / moved.sum())

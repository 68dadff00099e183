"""The worst-case loss, by softmax-weighted gradient descent."""

import torch
from task_kernels import softmax_weights
from torch import Tensor

from pipeline.objectives.alpha_schedule import AlphaSchedule
from pipeline.objectives.interface import Objective, TaskStats


class Minimax(Objective):
    """c_t = f_t^τ exp(α L_t) / Σ_s f_s^τ exp(α L_s), detached; f_t is the task's share of the step's labels.

    With τ = 0 it is the paper's rule (arXiv 2306.12070, equation 7). The weights solve
    max_w ⟨w, L⟩ − KL(w ‖ p) / α for a prior p ∝ f^τ, and Σ c_t ∇L_t is the gradient of
    (1/α) log Σ f_t^τ exp(α L_t). As α grows, it goes to the largest task loss; as α → 0, to `average` where
    τ = 0, and to `token_mean` where τ = 1, whatever the losses are estimated from: the counts of a step are
    known before its first pass.

    One pass where the losses are a moving average's or a rank has one micro-batch, else one more forward
    (estimator two_pass). It fails from scratch: what is easy and frequent, and taught first by other rules,
    has little weight at once (a warm start, or a schedule, mends that). τ near 1 starves rare tasks. A task
    with a high entropy that no model can lower keeps the weight for ever (`excess`).
    """

    def __init__(self, alpha: AlphaSchedule, prior_power: float = 0.0) -> None:
        super().__init__()
        self._alpha = alpha
        self._prior_power = prior_power

    def reads_losses(self, step: int) -> bool:
        """Always."""
        return True

    def coefficients(self, stats: TaskStats) -> Tensor:
        """[T] softmax of τ log f + α L over the valid tasks; sums to 1."""
        scores, valid = self._alpha(stats.step) * stats.losses, stats.valid
        if self._prior_power > 0:
            # Shares and counts differ by a factor, of which the softmax knows nothing.
            scores = scores + self._prior_power * torch.log(stats.counts.clamp(min=1).to(scores.dtype))
            valid = valid & stats.present
        return softmax_weights(scores, 1.0, valid)

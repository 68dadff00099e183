"""Weights that even out how strongly, and how fast, tasks train a shared layer."""

import torch
from torch import Tensor


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
    here it is 0, from which it may rise again.

    Args:
        weights: [T] w, which sums to T.
        gradient_norms: [T] g_t = ‖∇L_t‖ at the shared layer, of the task's mean loss and without its weight.
        losses: [T] L_t in nats.
        initial_losses: [T] L_t(0) in nats.
        present: [T] bool; the others keep their share, and count in no mean.
        alpha: ≥ 0: how strongly slow tasks are pulled along.
        lr: step on w, in 1 / (unit of g).

    Returns:
        [T] weights ≥ 0 that sum to T.
    """
    num_present = present.sum().clamp(min=1)
    weighted = torch.where(present, weights * gradient_norms, 0.0)
    ratios = torch.where(present, losses / initial_losses, 0.0)
    rates = ratios / (ratios.sum() / num_present)
    targets = weighted.sum() / num_present * rates**alpha
    gradient = torch.where(present, gradient_norms * torch.sign(weighted - targets), 0.0)
    moved = (weights - lr * gradient).clamp(min=0)
    return moved * (len(moved) / moved.sum())

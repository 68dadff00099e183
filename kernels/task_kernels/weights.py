"""The task weights of softmax-weighted gradient descent: the only place where they are computed."""

import math
from importlib.util import find_spec

import torch
from torch import Tensor


def softmax_weights(losses: Tensor, alpha: float, valid: Tensor) -> Tensor:
    """w_t = exp(α L_t) / Σ_s exp(α L_s) over the valid tasks (arXiv 2306.12070, equation 7).

    The weights are detached: Σ w_t ∇L_t is the gradient of (1/α) log mean_t exp(α L_t) only if they are
    constants.

    Args:
        losses: [T] task losses; what stands at invalid tasks is not read, not even a NaN.
        alpha: α ≥ 0; 0 weighs all valid tasks alike.
        valid: [T] bool.

    Raises:
        ValueError: alpha below 0 or not finite.

    Returns:
        [T] weights that sum to 1, 0 at invalid tasks; all 0 where no task is valid. On a GPU in one launch.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha is {alpha}; it must be finite and not below 0")
    if losses.is_cuda and find_spec("triton"):
        from task_kernels import triton_weights

        return triton_weights.softmax_weights(losses.detach(), alpha, valid)
    scores = torch.where(valid, alpha * losses.detach(), -torch.inf)
    peak = scores.max()
    shifted = torch.where(valid, scores - peak, -torch.inf)
    weights = shifted.exp()
    return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

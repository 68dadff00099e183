"""The task weights in one launch, where plain torch takes a dozen."""

# mypy: allow-untyped-defs, allow-incomplete-defs

import torch
import triton
import triton.language as tl
from torch import Tensor


def softmax_weights(losses: Tensor, alpha: float, valid: Tensor) -> Tensor:
    """w_t = exp(α L_t) / Σ_s exp(α L_s) over the valid tasks, as `task_kernels.weights` defines it.

    Args:
        losses: [T] fp32 or fp64; what stands at invalid tasks is not used, not even a NaN.
        alpha: α ≥ 0.
        valid: [T] bool.

    Returns:
        [T] detached weights in the type of `losses`; 0 at invalid tasks, all 0 where no task is valid.
    """
    num_tasks = len(losses)
    weights = torch.empty_like(losses, requires_grad=False, memory_format=torch.contiguous_format)
    if num_tasks == 0:
        return weights
    with torch.cuda.device_of(losses):
        _softmax_of_valid[(1,)](
            losses.detach().contiguous(),
            valid.contiguous().view(torch.uint8),
            weights,
            alpha,
            num_tasks,
            BLOCK=triton.next_power_of_2(num_tasks),
            num_warps=1,
        )
    return weights


@triton.jit
def _softmax_of_valid(losses, valid, weights, alpha: tl.float64, num_tasks, BLOCK: tl.constexpr):
    tasks = tl.arange(0, BLOCK)
    inside = tasks < num_tasks
    counted = tl.load(valid + tasks, mask=inside, other=0) != 0
    loss = tl.load(losses + tasks, mask=inside, other=0.0)
    scores = tl.where(counted, loss * tl.full(loss.shape, alpha, loss.dtype), float("-inf"))
    shifted = tl.where(counted, scores - tl.max(scores, axis=0), float("-inf"))
    powers = tl.exp(shifted)
    total = tl.sum(powers, axis=0)
    # The total is 0 only where no task is valid: the peak itself adds 1. A NaN stays one.
    tl.store(weights + tasks, powers / tl.where(total == 0, 1.0, total), mask=inside)

"""α over the steps."""

import math
from collections.abc import Callable
from typing import Literal

AlphaSchedule = Callable[[int], float]
"""From step k, counted from 0, to α_k in 1 / nats."""
RisingShape = Literal["constant", "linear", "sqrt"]


def rising_alpha(shape: RisingShape, alpha: float, num_steps: int) -> AlphaSchedule:
    """α from the first step on, or rising to it, which it reaches at the last of `num_steps`.

    α_k = α · ((k + 1) / K)^p with p = 0, 1 or ½: the theorem's α grows like √k, up to a logarithm.
    """
    power = {"constant": 0.0, "linear": 1.0, "sqrt": 0.5}[shape]
    return lambda step: alpha * ((step + 1) / num_steps) ** power


def theorem_alpha(radius_lipschitz: float, loss_bound: float, num_tasks: int) -> AlphaSchedule:
    """The least α_k of Theorem 3.1 (arXiv 2306.12070), 0 where that is negative.

    α_k = 4√(k+1) / (R₀L′) · log(4TB√(k+1) / (R₀L′)).

    Args:
        radius_lipschitz: R₀L′ in nats: the distance from the first parameters to the best ones, times the
            Lipschitz constant of the task losses.
        loss_bound: B in nats, which no task loss exceeds.
        num_tasks: T.
    """

    def alpha(step: int) -> float:
        slope = 4 * math.sqrt(step + 1) / radius_lipschitz
        return max(0.0, slope * math.log(max(num_tasks, 1) * loss_bound * slope))

    return alpha

"""Quadratic tasks, their average optimum and their minimax optimum."""

from dataclasses import dataclass

import torch
from task_kernels import softmax_weights
from torch import Tensor

_SHARPENING, _MAX_SHARPENINGS = 8.0, 15
_MAX_NEWTON_STEPS = 50


@dataclass(frozen=True)
class MinimaxPoint:
    """A point, and a bound on how far its worst loss is from the best.

    Attributes:
        theta: [d].
        value: max_t L_t(θ).
        gap: value − a lower bound of min_θ max_t L_t(θ), by duality.
    """

    theta: Tensor
    value: float
    gap: float


@dataclass(frozen=True)
class Quadratics:
    """L_t(θ) = f_t + ½ (θ − c_t)ᵀ H_t (θ − c_t).

    Attributes:
        curvatures: [T, d, d] H_t, positive definite.
        centres: [T, d] c_t.
        floors: [T] f_t ≥ 0, irreducible losses.
    """

    curvatures: Tensor
    centres: Tensor
    floors: Tensor

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.floors)

    def losses(self, theta: Tensor) -> Tensor:
        """[T] L_t at [d]."""
        away = theta - self.centres
        return self.floors + torch.einsum("td,tde,te->t", away, self.curvatures, away) / 2

    def gradients(self, theta: Tensor) -> Tensor:
        """[T, d] ∇L_t at [d]."""
        return torch.einsum("tde,te->td", self.curvatures, theta - self.centres)

    def weighted_minimiser(self, weights: Tensor) -> Tensor:
        """[d] argmin Σ w_t L_t, for [T] weights that are not all 0."""
        curvature = torch.einsum("t,tde->de", weights, self.curvatures)
        pull = torch.einsum("t,tde,te->d", weights, self.curvatures, self.centres)
        return torch.linalg.solve(curvature, pull)

    def average_minimiser(self) -> Tensor:
        """[d] argmin (1/T) Σ L_t."""
        return self.weighted_minimiser(torch.full_like(self.floors, 1 / self.num_tasks))

    def minimax(self, tolerance: float = 1e-5) -> MinimaxPoint:
        """Minimise max_t L_t, with a gap below `tolerance` of the value.

        Newton's method on (1/α) log Σ exp(α L_t), whose weights are the product's softmax, for growing α.
        Any weights prove a lower bound: min_θ Σ w_t L_t(θ) ≤ min_θ max_t L_t(θ).

        Raises:
            ArithmeticError: fp64 is not enough for these curvatures.
        """
        theta = self.average_minimiser()
        alpha = 1 / float(self.losses(theta).max())
        for _ in range(_MAX_SHARPENINGS):
            theta = self._smoothed_minimiser(theta, alpha)
            point = self._certified(theta, alpha)
            if point.gap <= tolerance * point.value:
                return point
            alpha *= _SHARPENING
        raise ArithmeticError(f"the gap of the minimax optimum is still {point.gap:.1e} of {point.value:.1e}")

    def steepness(self) -> float:
        """κ: the largest eigenvalue of any H̄⁻¹H_t, H̄ the mean curvature; between 1 and T."""
        factor = torch.linalg.cholesky(self.curvatures.mean(dim=0))
        half = torch.linalg.solve_triangular(factor, self.curvatures, upper=False)
        relative = torch.linalg.solve_triangular(factor, half.mT, upper=False)
        return float(torch.linalg.eigvalsh(relative).max())

    def _smoothed_minimiser(self, theta: Tensor, alpha: float) -> Tensor:
        value = self._smoothed(theta, alpha)
        for _ in range(_MAX_NEWTON_STEPS):
            weights, gradients = self._weights(theta, alpha), self.gradients(theta)
            gradient = weights @ gradients
            centred = gradients - gradient
            hessian = torch.einsum("t,tde->de", weights, self.curvatures)
            hessian = hessian + alpha * torch.einsum("t,td,te->de", weights, centred, centred)
            step = torch.linalg.solve(hessian, gradient)
            decrease = float(gradient @ step)
            size = 1.0
            while self._smoothed(theta - size * step, alpha) > value - 0.25 * size * decrease and size > 1e-9:
                size /= 2
            theta = theta - size * step
            value = self._smoothed(theta, alpha)
            if (
                decrease * alpha < 1e-9
            ):  # far below the smoothing itself, log T/α, and quadratic: this step did it
                break
        return theta

    def _certified(self, theta: Tensor, alpha: float) -> MinimaxPoint:
        weights = self._weights(theta, alpha)
        lower = float(weights @ self.losses(self.weighted_minimiser(weights)))
        value = float(self.losses(theta).max())
        return MinimaxPoint(theta, value, value - lower)

    def _smoothed(self, theta: Tensor, alpha: float) -> float:
        return float(torch.logsumexp(alpha * self.losses(theta), 0)) / alpha

    def _weights(self, theta: Tensor, alpha: float) -> Tensor:
        return softmax_weights(self.losses(theta), alpha, torch.ones_like(self.floors, dtype=torch.bool))


def isotropic(curvatures: Tensor, centres: Tensor, floors: Tensor | None = None) -> Quadratics:
    """Tasks that are equally steep in all directions: H_t = h_t · 1, from [T] h and [T, d] centres."""
    identity = torch.eye(centres.shape[1], dtype=torch.float64)
    no_floors = torch.zeros(len(centres), dtype=torch.float64)
    return Quadratics(curvatures[:, None, None] * identity, centres, no_floors if floors is None else floors)


def worst_case_ratio(tasks: Quadratics) -> float:
    """max_t L_t at the average optimum ÷ max_t L_t at the minimax optimum."""
    return float(tasks.losses(tasks.average_minimiser()).max()) / tasks.minimax().value


def steepness_bound(steepness: float) -> float:
    """(1 + √κ)², which no ratio of quadratics exceeds (proof in `remark_5_2`)."""
    return (1 + steepness**0.5) ** 2

"""Softmax-weighted gradient descent on many convex problems at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from task_kernels import softmax_weights
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pipeline.theory.convex_tasks import ConvexTasks, huber

_softmax_rows = torch.vmap(softmax_weights, in_dims=(0, None, 0))


@dataclass(frozen=True)
class Rule:
    """α_k = constant + √(k+1) · (per_root + per_root_log · log √(k+1)), and the step sizes.

    Attributes:
        decaying: η_k = R₀/(L′√(k+1)), for who does not know the number of steps; else R₀/(L′√K).
    """

    constant: float = 0.0
    per_root: float = 0.0
    per_root_log: float = 0.0
    decaying: bool = False

    def alpha(self, step: int) -> float:
        """α_k of step k = 0, 1, …"""
        root = math.sqrt(step + 1)
        return self.constant + root * (self.per_root + self.per_root_log * math.log(root))


@dataclass(frozen=True)
class Run:
    """K steps on a problem by a rule."""

    tasks: ConvexTasks
    rule: Rule
    num_steps: int


@dataclass(frozen=True)
class Outcome:
    """Where a run went.

    Attributes:
        average: [d] mean of θ₀ … θ_{K−1}.
        farthest: max_k ‖θ_k − θ*‖.
    """

    average: Tensor
    farthest: float


@torch.inference_mode()
def descend(runs: Sequence[Run]) -> list[Outcome]:
    """Take θ_{k+1} = θ_k − η_k Σ_t w_t ∇L_t(θ_k), w = softmax(α_k L(θ_k)), for every run.

    All runs take a step together, which costs hardly more than one; who has finished leaves.
    """
    order = sorted(range(len(runs)), key=lambda place: -runs[place].num_steps)
    rows = _rows([runs[place] for place in order])
    step = 0
    for num_left in range(len(runs), 0, -1):
        left = _Rows(*(values[:num_left] for values in rows))
        while step < runs[order[num_left - 1]].num_steps:
            left.advance(step)
            step += 1
    outcomes = {
        place: Outcome(total[: len(runs[place].tasks.start)] / runs[place].num_steps, float(farthest))
        for place, total, farthest in zip(order, rows.total, rows.farthest, strict=True)
    }
    return [outcomes[place] for place in range(len(runs))]


class _Rows(NamedTuple):
    """A run per row, the longest first, padded to the most tasks and dimensions; updated in place."""

    theta: Tensor
    total: Tensor
    farthest: Tensor
    coordinates: Tensor
    centres: Tensor
    valid: Tensor
    width: Tensor
    constant: Tensor
    per_root: Tensor
    per_root_log: Tensor
    reach: Tensor
    fixed_root: Tensor

    def advance(self, step: int) -> None:
        """Step k of all rows."""
        root = math.sqrt(step + 1)
        alpha = self.constant + root * (self.per_root + self.per_root_log * math.log(root))
        size = self.reach / torch.where(self.fixed_root > 0, self.fixed_root, root)
        losses, slopes = huber(self.theta.gather(1, self.coordinates).sub_(self.centres), self.width)
        # The product's rule is a function of α L alone, so each row may bring an α of its own.
        weights = _softmax_rows(alpha * losses, 1.0, self.valid)
        gradient = torch.zeros_like(self.theta).scatter_add_(1, self.coordinates, weights * slopes)
        self.total.add_(self.theta)
        self.theta.sub_(size * gradient)
        self.farthest.copy_(torch.maximum(self.farthest, self.theta.norm(dim=1)))


def _rows(runs: Sequence[Run]) -> _Rows:
    problems, rules = [run.tasks for run in runs], [run.rule for run in runs]
    start = _stack([tasks.start for tasks in problems])
    return _Rows(
        theta=start,
        total=torch.zeros_like(start),
        farthest=start.norm(dim=1),
        coordinates=_stack([tasks.coordinates for tasks in problems]),
        centres=_stack([tasks.centres for tasks in problems]),
        valid=_stack([torch.ones(tasks.num_tasks, dtype=torch.bool) for tasks in problems]),
        width=_column([tasks.width for tasks in problems]),
        constant=_column([rule.constant for rule in rules]),
        per_root=_column([rule.per_root for rule in rules]),
        per_root_log=_column([rule.per_root_log for rule in rules]),
        reach=_column([tasks.radius / tasks.lipschitz for tasks in problems]),
        fixed_root=_column([0 if run.rule.decaying else math.sqrt(run.num_steps) for run in runs]),
    )


def _stack(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]

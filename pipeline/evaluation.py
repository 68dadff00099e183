"""Held-out loss and accuracy of each task, with intervals, from a model's scores."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.interface import HeldOut
from pipeline.models.interface import Scores

MIN_JUDGED = 100
"""Predictions from which on a task is judged; with fewer it is shown, but cannot be the worst."""
_RESAMPLES = 1_000
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class HeldOutTotals:
    """Sums per cluster (document) and loss term: each [C, M] float64."""

    losses: NDArray[np.float64]
    correct: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class TaskFigures:
    """A task on a held-out split: `loss` in nats per predicted piece, `accuracy` in [0, 1]."""

    loss: Estimate
    accuracy: Estimate
    count: int

    @property
    def judged(self) -> bool:
        """Whether there are predictions enough to compare this task with others."""
        return self.count >= MIN_JUDGED


def held_out_totals(
    score: Callable[[dict[str, Tensor]], Scores],
    held_out: HeldOut,
    num_terms: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> HeldOutTotals:
    """Score a held-out split, the ranks sharing the batches; every rank gets the whole totals."""
    totals = torch.zeros(3, held_out.num_clusters, num_terms, dtype=torch.float64, device=device)
    with torch.no_grad():
        for batch in held_out.batches(rank, world_size):
            scores = score({name: tensor.to(device) for name, tensor in batch.inputs.items()})
            place = (batch.clusters.to(device)[scores.samples], scores.terms)
            ones = torch.ones_like(scores.losses)
            for total, values in zip(totals, (scores.losses, scores.correct, ones), strict=True):
                total.index_put_(place, values.double(), accumulate=True)
    if world_size > 1:
        dist.all_reduce(totals)
    losses, correct, counts = totals.cpu().numpy()
    return HeldOutTotals(losses, correct, counts)


def task_figures(totals: HeldOutTotals, names: tuple[str, ...]) -> dict[str, TaskFigures]:
    """Figures of every term that has predictions; the intervals are bootstrap percentiles over clusters."""
    num_clusters = len(totals.counts)
    random = np.random.default_rng(_BOOTSTRAP_SEED)
    draws = random.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=_RESAMPLES)
    counts = draws @ totals.counts
    figures = {}
    for index, name in enumerate(names):
        count = totals.counts[:, index].sum()
        if count == 0:
            continue
        estimates = []
        for sums in (totals.losses[:, index], totals.correct[:, index]):
            drawn = (draws @ sums)[counts[:, index] > 0] / counts[counts[:, index] > 0, index]
            low, high = np.percentile(drawn, [2.5, 97.5])
            estimates.append(Estimate(float(sums.sum() / count), float(low), float(high)))
        figures[name] = TaskFigures(loss=estimates[0], accuracy=estimates[1], count=int(count))
    return figures


def worst_task(figures: dict[str, TaskFigures]) -> str | None:
    """The task with the highest loss among those with predictions enough; None if there is none."""
    judged = {name: figure.loss.value for name, figure in figures.items() if figure.judged}
    return max(judged, key=lambda name: judged[name], default=None)


def average_loss(figures: dict[str, TaskFigures]) -> float | None:
    """The mean loss of the judged tasks; None if there is none."""
    judged = [figure.loss.value for figure in figures.values() if figure.judged]
    return sum(judged) / len(judged) if judged else None

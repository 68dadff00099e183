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
MIN_CLUSTERS = 10
"""Documents from which on an interval is given: resampling fewer makes intervals that are far too narrow."""
_RESAMPLES = 1_000
_RESAMPLES_AT_ONCE = 50
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class HeldOutTotals:
    """Sums per cluster (document) and loss term: each [C, M] float64."""

    losses: NDArray[np.float64]
    correct: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, if there are clusters enough for one."""

    value: float
    low: float | None
    high: float | None


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
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> HeldOutTotals:
    """Score a held-out split, the ranks sharing the batches; every rank gets the whole totals."""
    shape = (3, held_out.num_clusters, len(held_out.term_names))
    totals = torch.zeros(shape, dtype=torch.float64, device=device)
    with torch.no_grad():
        for batch in held_out.batches(rank, world_size):
            scores = score({name: tensor.to(device) for name, tensor in batch.inputs.items()})
            place = (batch.clusters.to(device), batch.terms.to(device))
            ones = torch.ones_like(scores.losses)
            for total, values in zip(totals, (scores.losses, scores.correct, ones), strict=True):
                total.index_put_(place, values.double(), accumulate=True)
    if world_size > 1:
        dist.all_reduce(totals)
    losses, correct, counts = totals.cpu().numpy()
    return HeldOutTotals(losses, correct, counts)


def task_figures(
    totals: HeldOutTotals, names: tuple[str, ...], *, with_intervals: bool = True
) -> dict[str, TaskFigures]:
    """Figures of every term that has predictions; the intervals are bootstrap percentiles over clusters."""
    resampled = _resampled_means(totals) if with_intervals and len(totals.counts) >= MIN_CLUSTERS else None
    figures = {}
    for index, name in enumerate(names):
        count = totals.counts[:, index].sum()
        if count == 0:
            continue
        loss, accuracy = (
            Estimate(float(sums[:, index].sum() / count), *_interval(resampled, which, index))
            for which, sums in enumerate((totals.losses, totals.correct))
        )
        figures[name] = TaskFigures(loss=loss, accuracy=accuracy, count=int(count))
    return figures


def _resampled_means(totals: HeldOutTotals) -> NDArray[np.float64]:
    """[resamples, 2, M] mean loss and accuracy over clusters drawn with replacement; NaN for none."""
    num_clusters = len(totals.counts)
    random = np.random.default_rng(_BOOTSTRAP_SEED)
    shares = np.full(num_clusters, 1 / num_clusters)
    parts = []
    for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
        draws = random.multinomial(num_clusters, shares, size=_RESAMPLES_AT_ONCE)
        sums = np.stack([draws @ totals.losses, draws @ totals.correct], axis=1)
        counts = (draws @ totals.counts)[:, None]
        parts.append(np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0))
    return np.concatenate(parts)


def _interval(
    resampled: NDArray[np.float64] | None, which: int, index: int
) -> tuple[float, float] | tuple[None, None]:
    if resampled is None:
        return None, None
    low, high = np.nanpercentile(resampled[:, which, index], [2.5, 97.5])
    return float(low), float(high)


def worst_task(figures: dict[str, TaskFigures]) -> str | None:
    """The task with the highest loss among those with predictions enough; None if there is none."""
    judged = {name: figure.loss.value for name, figure in figures.items() if figure.judged}
    return max(judged, key=lambda name: judged[name], default=None)


def average_loss(figures: dict[str, TaskFigures]) -> float | None:
    """The mean loss of the judged tasks; None if there is none."""
    judged = [figure.loss.value for figure in figures.values() if figure.judged]
    return sum(judged) / len(judged) if judged else None

"""Proposition 5.1: which of minimax and average pre-training leaves less risk downstream.

Downstream risks are taken as mixtures of the upstream ones, D_q = Σ_t q_t L_t. Over all mixtures max_q D_q
= max_t L_t, which the minimax optimum minimises by definition. And max_t L_t(θ_avg) ≤ Σ_t L_t(θ_avg) ≤ Σ_t
L_t(θ_mm) ≤ T max_t L_t(θ_mm).
"""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.theory.drawing import BLUE, GREEN, ORANGE, PURPLE, label, limit_line, new_figure
from pipeline.theory.quadratics import Quadratics, steepness_bound
from pipeline.theory.statement import Statement

_DIMENSIONS = 6
_NUM_INSTANCES = 40
_NUM_DOWNSTREAM = 20
_CONCENTRATIONS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0]
_SPREADS = {"equal curvatures": 0.0, "curvatures from 1 to 10": 1.0, "curvatures from 1 to 1,000": 3.0}
_COLOURS = dict(zip(_SPREADS, (GREEN, BLUE, ORANGE), strict=True))


@dataclass(frozen=True)
class Instance:
    """Random tasks at both optima.

    Attributes:
        family: of its curvatures.
        steepness: κ of its quadratics.
        at_minimax, at_average: [T] upstream risks at θ_mm and θ_avg.
    """

    family: str
    steepness: float
    at_minimax: torch.Tensor
    at_average: torch.Tensor

    @property
    def ratio(self) -> float:
        """Worst risk after average pre-training ÷ after minimax."""
        return float(self.at_average.max() / self.at_minimax.max())

    @property
    def price(self) -> float:
        """Average risk after minimax pre-training ÷ after average."""
        return float(self.at_minimax.mean() / self.at_average.mean())


def random_tasks(num_tasks: int, dimensions: int, decades: float, generator: torch.Generator) -> Quadratics:
    """Random centres and floors; scales of the curvatures spread log-uniformly over so many powers of ten.

    With `decades` = 0 every curvature is the identity, else each is a random matrix times its scale.
    """

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    identity = torch.eye(dimensions, dtype=torch.float64).expand(num_tasks, -1, -1)
    factors = normal(num_tasks, dimensions, dimensions)
    wishart = factors @ factors.mT / dimensions + 0.1 * identity
    scales = 10 ** (decades * torch.rand(num_tasks, generator=generator, dtype=torch.float64))
    curvatures = identity.clone() if decades == 0 else scales[:, None, None] * wishart
    return Quadratics(curvatures, normal(num_tasks, dimensions), normal(num_tasks).abs() / 10)


def random_instances(num_tasks: int, generator: torch.Generator) -> list[Instance]:
    """Instances of every family."""
    return [
        _solved(family, random_tasks(num_tasks, _DIMENSIONS, decades, generator))
        for family, decades in _SPREADS.items()
        for _ in range(_NUM_INSTANCES)
    ]


def _solved(family: str, tasks: Quadratics) -> Instance:
    return Instance(
        family=family,
        steepness=tasks.steepness(),
        at_minimax=tasks.losses(tasks.minimax().theta),
        at_average=tasks.losses(tasks.average_minimiser()),
    )


def share_won_by_minimax(
    instances: list[Instance], concentration: float, random: np.random.Generator
) -> float:
    """Share of instances where minimax has the lower worst risk over 20 downstream tasks.

    These are mixtures of the upstream tasks from a symmetric Dirichlet distribution: near 0 each is an
    upstream task, for large `concentration` each is their average.
    """
    wins = 0
    for instance in instances:
        mixtures = random.dirichlet([concentration] * len(instance.at_minimax), size=_NUM_DOWNSTREAM)
        minimax = (mixtures @ instance.at_minimax.numpy()).max()
        wins += bool(minimax <= (mixtures @ instance.at_average.numpy()).max())
    return wins / len(instances)


def examine(task_counts: list[int], seed: int) -> Statement:
    """Random quadratics with every T: worst risks, and which pre-training wins downstream."""
    generator = torch.Generator().manual_seed(seed)
    random = np.random.default_rng(seed)
    solved = {num_tasks: random_instances(num_tasks, generator) for num_tasks in task_counts}
    shares = {
        num_tasks: [share_won_by_minimax(instances, value, random) for value in _CONCENTRATIONS]
        for num_tasks, instances in solved.items()
    }
    everything = [instance for instances in solved.values() for instance in instances]
    ratios = [instance.ratio for instance in everything]
    prices = [instance.price for instance in everything]
    wide = [instance.ratio for instance in everything if instance.family == list(_SPREADS)[-1]]
    figure = _draw(everything, shares)
    return Statement(
        name="proposition-5.1",
        findings=[
            f"On {len(ratios)} random instances the worst risk after average pre-training is "
            f"{min(ratios):.2f} to {max(ratios):.2f} times the one after minimax (median "
            f"{np.median(ratios):.2f}; where curvatures spread over three powers of ten "
            f"{np.median(wide):.2f}).",
            f"The price: its average risk is {np.median(prices):.2f} times the best one (median; at most "
            f"{max(prices):.1f}).",
            f"With {_NUM_DOWNSTREAM} downstream tasks that are each nearly one upstream task, minimax has "
            f"the lower worst risk in {_each_share(shares, 0)} of the instances; where they are blends "
            f"(Dirichlet {_CONCENTRATIONS[-1]:.0f}), in {_each_share(shares, -1)}. With far more upstream "
            "than downstream tasks the worst upstream task is mostly not asked for.",
        ],
        checks={
            "the worst risk after minimax is never the larger one": min(ratios) >= 1 - 1e-5,
            "the worst risk after average pre-training is at most T times larger": all(
                instance.ratio <= len(instance.at_minimax) for instance in everything
            ),
            "nor more than (1 + √κ)² times": all(
                instance.ratio <= steepness_bound(instance.steepness) for instance in everything
            ),
        },
        numbers={
            "instances": [
                {
                    "family": instance.family,
                    "num_tasks": len(instance.at_minimax),
                    "steepness": instance.steepness,
                    "ratio": instance.ratio,
                    "price": instance.price,
                }
                for instance in everything
            ],
            "concentrations": _CONCENTRATIONS,
            "share_won_by_minimax": {str(num_tasks): share for num_tasks, share in shares.items()},
        },
        figure=figure,
    )


def _each_share(shares: dict[int, list[float]], place: int) -> str:
    return ", ".join(f"{share[place]:.0%} (T = {num_tasks})" for num_tasks, share in shares.items())


def _draw(everything: list[Instance], shares: dict[int, list[float]]) -> Figure:
    figure, axes = new_figure(1, 2, 3.8)
    _draw_ratios(axes[0, 0], everything)
    right = axes[0, 1]
    for colour, (num_tasks, share) in zip(
        (PURPLE, BLUE, GREEN, ORANGE) * len(shares), shares.items(), strict=False
    ):
        right.semilogx(
            _CONCENTRATIONS, share, color=colour, marker="o", markersize=4, label=f"T = {num_tasks}"
        )
    right.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    right.set_ylim(-0.03, 1.03)
    right.yaxis.set_major_formatter("{x:.0%}")
    right.legend(frameon=False)
    label(
        right,
        "Over 20 downstream tasks: share where minimax wins",
        "Dirichlet concentration: single tasks … blends",
    )
    return figure


def _draw_ratios(axes: Axes, everything: list[Instance]) -> None:
    for family, colour in _COLOURS.items():
        these = [one for one in everything if one.family == family]
        x, y = [one.steepness for one in these], [one.ratio for one in these]
        axes.scatter(x, y, s=9, color=colour, alpha=0.6, linewidths=0, label=family)
    grid = np.geomspace(1, max(one.steepness for one in everything), 50)
    limit_line(axes, list(grid), [steepness_bound(value) for value in grid], "bound (1 + √κ)²")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)
    label(axes, "Worst risk, average ÷ minimax", "steepness κ")

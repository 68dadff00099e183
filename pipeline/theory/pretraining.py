"""Upstream tasks, and the parameters that pre-training on them leaves for fine-tuning to start from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.theory.quadratics import Quadratics, isotropic

DIMENSIONS = 40
_RANDOM_NORM = 2.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Initialisation:
    """Where fine-tuning starts.

    Attributes:
        name: of the pre-training.
        theta: [d].
        excess: the largest L_t(θ) − min L_t of any task.
    """

    name: str
    theta: Array
    excess: float


@dataclass(frozen=True)
class Scenario:
    """Upstream risks ½h_t‖θ − c_t‖² + f_t; each is a downstream task too, without the irreducible f_t."""

    name: str
    curvatures: tuple[float, ...]
    positions: tuple[float, ...]
    floors: tuple[float, ...]

    def upstream(self) -> Quadratics:
        """The tasks, their centres along the first of d dimensions."""
        centres = torch.zeros(len(self.positions), DIMENSIONS, dtype=torch.float64)
        centres[:, 0] = torch.tensor(self.positions, dtype=torch.float64)
        return isotropic(_tensor(self.curvatures), centres, _tensor(self.floors))

    def downstream(self) -> Iterator[tuple[float, Array]]:
        """Curvature h and centre c of every different downstream task."""
        for curvature, position in dict.fromkeys(zip(self.curvatures, self.positions, strict=True)):
            yield curvature, np.array([position, *[0.0] * (DIMENSIONS - 1)])

    def initialisations(self, seed: int) -> list[Initialisation]:
        """After minimax pre-training, average, minimax on L_t − f_t, and none: a random direction."""
        tasks = self.upstream()
        reducible = Quadratics(tasks.curvatures, tasks.centres, torch.zeros_like(tasks.floors))
        random = np.random.default_rng(seed).normal(size=DIMENSIONS)
        thetas = {
            "minimax": tasks.minimax().theta.numpy(),
            "average": tasks.average_minimiser().numpy(),
            "minimax of the excess": reducible.minimax().theta.numpy(),
            "random": _RANDOM_NORM * random / np.linalg.norm(random),
        }
        return [
            Initialisation(name, theta, float(reducible.losses(torch.from_numpy(theta)).max()))
            for name, theta in thetas.items()
        ]


OUTVOTED = Scenario(
    name="an outvoted task",
    curvatures=(8.0, *[1.0] * 8),
    positions=(0.0, *[1.0] * 8),
    floors=(0.0,) * 9,
)
"""One task, 8 times as steep, against eight: the example of Remark 5.2 for T = 9."""

NOISY = Scenario(
    name="an irreducible loss",
    curvatures=(1.0,) * 9,
    positions=(*[-1.0] * 4, *[1.0] * 5),
    floors=(*[0.0] * 8, 3.0),
)
"""Two camps of equal tasks; one of the larger has a loss that nobody can lower, and minimax goes after it."""

SCENARIOS = (OUTVOTED, NOISY)


def converged_samples(start_excess: float, excess: float) -> float:
    """Samples d(1 − ε/E₀) from which converged descent leaves an expected excess risk of ε, without noise."""
    return DIMENSIONS * max(0.0, 1 - excess / start_excess) if start_excess else 0.0


def _tensor(values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)

"""Where the elements of parameters lie: whole at first, in pieces of flat vectors once ZeRO has cut them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Piece:
    """Elements [start, start + count) of the flattened trained parameter `number`, which lie at
    [first, first + count) of a flat vector.
    """

    number: int
    start: int
    first: int
    count: int

    def of(self, flat: Tensor) -> Tensor:
        """The piece's elements [count] in a tensor of the vector's size, as a view."""
        return flat.view(-1)[self.first : self.first + self.count]


@dataclass(frozen=True)
class Placement:
    """What a flat vector holds on each of the ranks that share its parameters; one where nothing is cut.

    `device` is where the ranks compute and talk to each other; an offloaded vector lies elsewhere.
    """

    by_rank: list[list[Piece]]
    rank: int
    device: torch.device

    @property
    def own(self) -> list[Piece]:
        """The pieces on this rank."""
        return self.by_rank[self.rank]

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum a tensor that all ranks have, in place; it lies on `device`."""
        if len(self.by_rank) > 1:
            dist.all_reduce(values)
        return values


class WholeParameterOptimizer(Optimizer, ABC):
    """An optimizer whose rule looks at whole parameters, and so must know where ZeRO puts their elements.

    Until `place` is called they are where they were, each whole.

    Attributes:
        shapes: of the trained parameters, by number.
    """

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        trained: list[nn.Parameter] = [p for group in self.param_groups for p in group["params"]]
        self.shapes = [parameter.shape for parameter in trained]  # which ZeRO-3 takes from them
        self._numbers = {id(parameter): number for number, parameter in enumerate(trained)}
        self.place(
            {
                parameter: Placement([[Piece(number, 0, 0, parameter.numel())]], 0, parameter.device)
                for number, parameter in enumerate(trained)
            }
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update what has a gradient, which is used up. All ranks step together, on the same groups."""
        assert closure is None, "DeepSpeed passes none"
        for group in self.param_groups:
            for flat in group["params"]:
                if flat.grad is not None:
                    self._update(flat, group)

    @abstractmethod
    def _update(self, flat: Tensor, group: dict[str, Any]) -> None:
        """Move `flat` by the rule. The update takes its gradient's place, since a vector of its own would be
        as large as the model.
        """

    def _next_state(self, flat: Tensor, *names: str) -> dict[str, Any]:
        """What the rule keeps of `flat`, with the step counted: by name a tensor like it, zero at first."""
        state = self.state[flat]
        if not state:
            state["step"] = torch.zeros((), device=flat.device)
            state.update({name: torch.zeros_like(flat) for name in names})
        state["step"] += 1
        return state

    def number_of(self, parameter: nn.Parameter) -> int:
        """The number of a trained parameter, the same on all ranks."""
        return self._numbers[id(parameter)]

    def place(self, placements: dict[Tensor, Placement]) -> None:
        """Take the vectors of `placements` for the parameters; all ranks do it together."""
        self._placements = placements

    def placement_of(self, flat: Tensor) -> Placement:
        """What `flat`, one of the tensors that are optimised, holds."""
        return self._placements[flat]

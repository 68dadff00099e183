"""A model as its collectives see it: sizes, groups of the optimizer, and in which order modules are used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from pipeline.models.interface import TaskModel
from pipeline.optimizers.lamb import Lamb
from pipeline.optimizers.muon import Muon

Rule = Literal["elementwise", "norms", "matrices"]
"""What an update looks at: each element for itself, norms of whole parameters, or whole matrices."""


@dataclass(frozen=True)
class Group:
    """A group of the optimizer: the indices of its parameters, and how it updates them."""

    parameters: tuple[int, ...]
    rule: Rule


@dataclass(frozen=True)
class Use:
    """A pass over a module: the indices of the parameters that it holds itself.

    It needs them still in the next `num_within` uses, those of a layer that runs again for its backward pass.
    """

    parameters: tuple[int, ...]
    num_within: int = 0


@dataclass(frozen=True)
class Layout:
    """`sizes` are the elements of each parameter, `num_terms` is the number of losses.

    A shared parameter has one index, in several modules. Frozen ones are in no group.
    """

    sizes: tuple[int, ...]
    groups: tuple[Group, ...]
    forward: tuple[Use, ...]
    backward: tuple[Use, ...]
    num_terms: int

    @property
    def trained(self) -> list[int]:
        """Elements of each trained parameter."""
        return [self.sizes[index] for group in self.groups for index in group.parameters]


def filled_up(num_elements: int, num_parts: int) -> int:
    """Elements with the padding that makes all parts equal."""
    return -(-num_elements // num_parts) * num_parts


def layout_of(model: TaskModel, inputs: dict[str, Tensor], optimizer: Optimizer) -> Layout:
    """The layout of a model, from a forward and backward pass on `inputs`; neither needs to hold data."""
    index_of = {id(parameter): index for index, parameter in enumerate(model.parameters())}
    forward, backward, num_terms = _uses(model, inputs, index_of)
    return Layout(
        sizes=tuple(parameter.numel() for parameter in model.parameters()),
        groups=tuple(
            Group(tuple(index_of[id(p)] for p in group["params"]), _rule(optimizer, group))
            for group in optimizer.param_groups
            if group["params"]
        ),
        forward=forward,
        backward=backward,
        num_terms=num_terms,
    )


def _rule(optimizer: Optimizer, group: dict[str, Any]) -> Rule:
    if isinstance(optimizer, Muon) and group["is_hidden"]:
        return "matrices"
    return "norms" if isinstance(optimizer, Lamb) and group["adapts"] else "elementwise"


def _uses(
    model: TaskModel, inputs: dict[str, Tensor], index_of: Mapping[int, int]
) -> tuple[tuple[Use, ...], tuple[Use, ...], int]:
    """Of the forward and of the backward pass, as they come; and the number of losses."""
    noted: list[tuple[tuple[int, ...], bool]] = []
    hooks = []

    def watch(module: nn.Module, own: tuple[int, ...]) -> None:
        def note(*_: Any, is_backward: bool = False) -> None:
            noted.append((own, is_backward))

        def wait_for_gradient(_: nn.Module, __: Any, output: Any) -> None:
            for tensor in tree_leaves(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda _: note(is_backward=True))

        hooks.extend(
            [module.register_forward_pre_hook(note), module.register_forward_hook(wait_for_gradient)]
        )

    for module in model.modules():
        own = tuple(index_of[id(parameter)] for parameter in module.parameters(recurse=False))
        if own:
            watch(module, own)
    sums, _ = model.train().task_losses(inputs)
    num_forward = len(noted)
    sums.sum().backward()
    for hook in hooks:
        hook.remove()
    forward = tuple(Use(own) for own, _ in noted[:num_forward])
    return forward, _backward_uses(noted[num_forward:]), len(sums)


def _backward_uses(noted: Sequence[tuple[tuple[int, ...], bool]]) -> tuple[Use, ...]:
    """A module's backward pass that has a layer run again is there until that is done."""
    uses = []
    for number, (own, is_backward) in enumerate(noted):
        runs_again = takewhile(lambda use: not use[1], noted[number + 1 :])
        uses.append(Use(own, sum(1 for _ in runs_again) if is_backward else 0))
    return tuple(uses)

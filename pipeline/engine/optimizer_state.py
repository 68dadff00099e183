"""The optimizer's state by parameter, whatever the ZeRO stage and the number of ranks.

DeepSpeed 0.19.8 keeps it in flat vectors, cut by rank in a way of each stage's own, and its checkpoints go
back into the same cut only. Here every rank names what it holds as elements [start, start + n) of a
parameter, which any other cut can be filled from.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.engine.launch import Place
from pipeline.engine.ranks import gather
from pipeline.optimizers.placement import Piece, Placement, WholeParameterOptimizer

STEP = "step"


@dataclass(frozen=True)
class Share:
    """Elements [start, start + n) of the flattened parameter `name`, which this rank's optimizer updates.

    `master` [n] is a view of their fp32 values; `state` maps the optimizer's names (`exp_avg`, …) to views
    [n] of its tensors, and is empty before the first step.
    """

    name: str
    start: int
    master: Tensor
    state: dict[str, Tensor]


def shares(engine: Any, network: nn.Module) -> Iterator[Share]:
    """What this rank's optimizer updates of every trained parameter; nothing of those it has no part in."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for parameter, start, flat, first, count in _locations(engine, network):
        state = base_optimizer(engine).state.get(flat, {})
        yield Share(
            names[id(parameter)],
            start,
            flat.data.view(-1)[first : first + count],
            {
                key: value.view(-1)[first : first + count]
                for key, value in state.items()
                if key != STEP and isinstance(value, Tensor)
            },
        )


def check_locations(engine: Any, network: nn.Module) -> None:
    """Compare what a fresh engine's optimizer holds with the parameters it is said to be of.

    Raises:
        RuntimeError: they differ: DeepSpeed keeps them in an order that it does not tell, and a checkpoint
            would mix them up.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for parameter, start, flat, first, count in _locations(engine, network):
        held = flat.data.view(-1)[first : first + count]
        working = _working_weights(engine, parameter, start, count)
        if working is not None and not torch.equal(held.to(working.device, working.dtype), working):
            raise RuntimeError(
                f"{names[id(parameter)]}: DeepSpeed's optimizer holds other elements than DeepSpeed says; "
                'leave out what the DeepSpeed JSON sets in "zero_optimization" beside the stage'
            )


def _working_weights(engine: Any, parameter: Any, start: int, count: int) -> Tensor | None:
    """Elements [count] that the model computes with, of this rank's; None where they are swapped out."""
    if engine.zero_optimization_stage() < 3:
        return parameter.detach().view(-1)[start : start + count]
    kept = parameter.ds_tensor
    return kept.detach().view(-1)[:count] if kept.numel() >= count else None


def place_pieces(engine: Any, network: nn.Module, place: Place) -> None:
    """Tell an optimizer that must know it where ZeRO has put which elements; all ranks call it together."""
    optimizer = base_optimizer(engine)
    if not isinstance(optimizer, WholeParameterOptimizer):
        return
    flats = [flat for flat, _ in _flats(engine)]
    own: dict[int, list[Piece]] = {id(flat): [] for flat in flats}
    for parameter, start, flat, first, count in _locations(engine, network):
        own[id(flat)].append(Piece(optimizer.number_of(parameter), start, first, count))
    is_cut = engine.zero_optimization_stage() > 0
    of_ranks = gather(list(own.values()), place) if is_cut else [list(own.values())]
    rank = place.rank if is_cut else 0
    optimizer.place(
        {
            flat: Placement([pieces[number] for pieces in of_ranks], rank, place.device)
            for number, flat in enumerate(flats)
        }
    )


def base_optimizer(engine: Any) -> Optimizer:
    """The torch optimizer beneath DeepSpeed's."""
    optimizer = engine.optimizer
    return optimizer if engine.zero_optimization_stage() == 0 else optimizer.optimizer


Location = tuple[nn.Parameter, int, Tensor, int, int]
"""A parameter, its first element here, the flat vector that holds them, their place there, their number."""


def _locations(engine: Any, network: nn.Module) -> Iterator[Location]:
    """Those of all elements that this rank's optimizer updates."""
    by_stage = {
        0: _whole_parameters,
        1: _shares_of_flat_groups,
        2: _shares_of_flat_groups,
        3: _shares_of_stage_3,
    }
    found = by_stage[engine.zero_optimization_stage()](engine, network)
    return (location for location in found if location[-1] > 0)


def _whole_parameters(engine: Any, network: nn.Module) -> Iterator[Location]:
    for parameter in network.parameters():
        if parameter.requires_grad:
            yield parameter, 0, parameter, 0, parameter.numel()


def _shares_of_flat_groups(engine: Any, network: nn.Module) -> Iterator[Location]:
    zero = engine.optimizer
    for group, flat_group in zip(zero.bit16_groups, zero.optimizer.param_groups, strict=True):
        for parameter in group:
            mapping = parameter._hp_mapping
            if mapping is not None:
                here, there = mapping.lp_fragment_address, mapping.get_hp_fragment_address()
                yield parameter, here.start, flat_group["params"][0], there.start, here.numel


def _shares_of_stage_3(engine: Any, network: nn.Module) -> Iterator[Location]:
    zero = engine.optimizer
    parameters: Iterator[Any] = network.parameters()
    for parameter in parameters:
        if parameter.requires_grad:
            group, first, width = zero.grad_position[zero.get_param_id(parameter)]
            start = width * zero._get_param_partition_rank(parameter)
            count = min(width, parameter.ds_numel - start)  # the last ranks' cuts end in padding
            yield parameter, start, zero.fp32_partitioned_groups_flat[group], first, count


def _flats(engine: Any) -> Iterator[tuple[Tensor, list[nn.Parameter]]]:
    """The tensors that the optimizer updates, in the same order on all ranks, and the parameters within."""
    zero = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        yield from zip(zero.fp32_partitioned_groups_flat, zero.fp16_groups, strict=True)
        return
    for number, group in enumerate(base_optimizer(engine).param_groups):
        for flat in group["params"]:
            yield flat, [flat] if engine.zero_optimization_stage() == 0 else zero.bit16_groups[number]


def create_state(
    engine: Any, network: nn.Module, keys_of: Callable[[str], list[str]], num_steps: int
) -> None:
    """Give a fresh optimizer the state that it has after `num_steps` steps, filled with zeros.

    `keys_of` gives the optimizer's names of what it keeps of a parameter.
    """
    optimizer = base_optimizer(engine)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for flat, parameters in _flats(engine):
        keys = keys_of(names[id(parameters[0])])
        state: dict[str, Tensor] = {key: torch.zeros_like(flat.data) for key in keys}
        if keys:
            state[STEP] = torch.tensor(float(num_steps), device=flat.device)
        optimizer.state[flat] = state
    for group in optimizer.param_groups:
        if STEP in group:
            group[STEP] = num_steps


def renew_working_weights(engine: Any) -> None:
    """Bring the weights that ZeRO computes with up to the optimizer's fp32 values, on all ranks."""
    zero = engine.optimizer
    if engine.zero_optimization_stage() in (1, 2):
        zero.update_lp_params()
    elif engine.zero_optimization_stage() == 3:
        zero.checkpoint_event_prologue()
        for number in range(len(zero.fp32_partitioned_groups_flat)):
            zero._reassign_or_swap_out_partitioned_parameters(number)
        zero.checkpoint_event_epilogue()


def num_optimizer_steps(engine: Any) -> int:
    """Steps taken, less those that fp16 skipped for an overflow."""
    optimizer = base_optimizer(engine)
    # Apex counts in groups, all others with the state of a tensor.
    of_groups = {int(group[STEP]) for group in optimizer.param_groups if STEP in group}
    steps = of_groups or {int(state[STEP]) for state in optimizer.state.values() if STEP in state}
    assert len(steps) <= 1, "all parameters are updated in every step"
    return max(steps, default=0)


class HostCopy:
    """Copies of this rank's shares in host memory, which is used again for the next ones."""

    def __init__(self) -> None:
        self._copies: dict[tuple[str, str, int], Tensor] = {}

    def take(self, engine: Any, network: nn.Module) -> list[Share]:
        """The shares as they are now, whatever becomes of the optimizer's."""
        copied = [
            Share(
                share.name,
                share.start,
                self._copy(share.master, ("", share.name, share.start)),
                {
                    key: self._copy(value, (key, share.name, share.start))
                    for key, value in share.state.items()
                },
            )
            for share in shares(engine, network)
        ]
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return copied

    def _copy(self, values: Tensor, place: tuple[str, str, int]) -> Tensor:
        copy = self._copies.get(place)
        if copy is None:
            copy = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
            self._copies[place] = copy
        return copy.copy_(values, non_blocking=True)


def restore_state(
    engine: Any, network: nn.Module, parameters: dict[str, Tensor], files: list[Path], num_steps: int
) -> None:
    """Fill the optimizer of an engine: fp32 values from `parameters`, state from the files of all ranks.

    The weights that ZeRO computes with are not touched.
    """
    pieces = Pieces(files)
    create_state(engine, network, pieces.keys_of, num_steps)
    for share in shares(engine, network):
        count = len(share.master)
        whole = parameters[share.name].view(-1)
        share.master.copy_(whole[share.start : share.start + count])
        for key, value in share.state.items():
            pieces.fill(value, f"{key}/{share.name}", share.start)


def write_pieces(path: Path, pieces: dict[str, tuple[int, Tensor]]) -> None:
    """Write pieces by name, each the elements of a tensor from a start on."""
    starts = {name: start for name, (start, _) in pieces.items()}
    tensors = {name: values for name, (_, values) in pieces.items()}
    save_file(tensors, path, metadata={"starts": json.dumps(starts)})


class Pieces:
    """What files of `write_pieces`, and memory, hold of each tensor together."""

    def __init__(self, files: list[Path]) -> None:
        self._places: dict[str, list[tuple[int, int, Any]]] = {}
        for path in files:
            file = safe_open(path, framework="pt")
            for name, start in json.loads(file.metadata()["starts"]).items():
                piece = file.get_slice(name)
                self._places.setdefault(name, []).append((start, piece.get_shape()[0], piece))

    def add(self, name: str, start: int, values: Tensor) -> None:
        """Elements [start, start + n) of a tensor are `values` [n]."""
        self._places.setdefault(name, []).append((start, len(values), values))

    def keys_of(self, parameter: str) -> list[str]:
        """What stands before the slash in names of the form key/parameter."""
        return sorted(
            key for key, _, name in (full.partition("/") for full in self._places) if name == parameter
        )

    def fill(self, values: Tensor, name: str, start: int) -> None:
        """Fill values [n] with elements [start, start + n) of a tensor."""
        end, found = start + len(values), 0
        for piece_start, length, piece in self._places.get(name, []):
            first, last = max(start, piece_start), min(end, piece_start + length)
            if first < last:
                values[first - start : last - start] = piece[first - piece_start : last - piece_start]
                found += last - first
        if found != len(values):
            raise ValueError(f"{name}: {found} of {len(values)} elements from {start} on are at hand")

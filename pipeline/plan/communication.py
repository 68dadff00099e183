"""What a rank sends in a training step: the collectives of DeepSpeed 0.19.8, and those of the task losses.

The paper (Rajbhandari et al., ZeRO, 2020, section 7) counts, for P parameters, 2 P numbers a step at stages 0
to 2 and 3 P at stage 3. DeepSpeed sends something else, read in its source and measured on its engine:

- Stages 1 and 2 reduce gradients to everyone (`use_multi_rank_bucket_allreduce`), not each part to its owner:
  2 P, and P for the updated parameters. Stage 2 reduces after every micro-batch, stage 1 after the last.
- Stage 3 keeps a parameter between its forward and its backward pass if not much lies between them
  (`stage3_max_reuse_distance`), and gathers it once then, not twice; again for every micro-batch.
- A forward pass without a backward one, as estimator `two_pass` makes, breaks the order that stage 3 has
  learnt: it gathers all parameters for every pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.models.interface import TaskModel
from pipeline.plan.batch import BatchPlan

Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "reduce"]

_STAGE_0_BUCKET = 500_000_000
"""Elements; no key changes it."""
_ALIGNMENT = 2
"""Elements, to a multiple of which DeepSpeed fills up each rank's part of a group at stages 1 and 2."""
_COUNT_BYTES, _SUM_BYTES = 8, 8
"""Task counts are int64, task sums fp64."""
_NUM_FLAGS = 2
"""What travels with the counts: the step's tokens, and how many ranks were told to stop."""


@dataclass(frozen=True)
class Traffic:
    """Messages of one kind in a step. A message has the bytes of the whole buffer that it fills or reduces.

    `num_messages` is the least; buckets that do not come out even make a few more.
    """

    what: str
    operation: Operation
    num_bytes: int
    """Of all messages together."""
    num_messages: int
    num_ranks: int

    @property
    def sent_bytes(self) -> float:
        """By a rank, in a ring: each of W ranks sends its W-th part W − 1 times, twice where all reduce."""
        passes = 2 if self.operation == "all_reduce" else 1
        return passes * self.num_bytes * (self.num_ranks - 1) / self.num_ranks


@dataclass(frozen=True)
class Layout:
    """A model as its collectives see it.

    `sizes` are the elements of each parameter, `groups` the indices of the trained ones by group of the
    optimizer, `modules` the indices of what each module holds itself, as a forward pass comes to the modules.
    A shared parameter has one index, in several modules. `num_terms` is the number of losses.
    """

    sizes: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    modules: tuple[tuple[int, ...], ...]
    num_terms: int

    @property
    def trained(self) -> list[int]:
        """Elements of each trained parameter."""
        return [self.sizes[index] for group in self.groups for index in group]


@dataclass(frozen=True)
class CommunicationCase:
    """What traffic depends on, but for the stage.

    `weight_bytes` is the size of a working weight, `reduced_bytes` that of a gradient on its way, `zero` the
    section of the DeepSpeed JSON with every key.
    """

    layout: Layout
    batch: BatchPlan
    weight_bytes: int
    reduced_bytes: int
    zero: Any


def layout_of(model: TaskModel, inputs: dict[str, Tensor], optimizer: Optimizer) -> Layout:
    """The layout of a model, from a forward pass on `inputs`; neither needs to hold data."""
    parameters = list(model.parameters())
    index_of = {id(parameter): index for index, parameter in enumerate(parameters)}
    modules: list[tuple[int, ...]] = []

    def note(module: nn.Module, _: Any) -> None:
        own = tuple(index_of[id(parameter)] for parameter in module.parameters(recurse=False))
        if own:
            modules.append(own)

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    with torch.no_grad():
        sums, _ = model.task_losses(inputs)
    for hook in hooks:
        hook.remove()
    groups = [[index_of[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]
    return Layout(
        sizes=tuple(parameter.numel() for parameter in parameters),
        groups=tuple(tuple(group) for group in groups if group),
        modules=tuple(modules),
        num_terms=len(sums),
    )


def step_traffic(case: CommunicationCase, stage: int) -> list[Traffic]:
    """All collectives of a training step at a ZeRO stage; none for a single rank."""
    if case.batch.world_size == 1:
        return []
    of_stage = (_stage_0, _stage_1_or_2, _stage_1_or_2, _stage_3)[stage]
    return [*of_stage(case, stage), *_task_traffic(case)]


def _task_traffic(case: CommunicationCase) -> list[Traffic]:
    """Counts before the first forward pass, sums before the weights and after the last backward pass."""
    batch = case.batch
    counts, sums = case.layout.num_terms * _COUNT_BYTES, case.layout.num_terms * _SUM_BYTES
    num_bytes, num_messages = counts + _NUM_FLAGS * _COUNT_BYTES + sums, 2
    if batch.reads_losses:
        every_round = batch.estimator == "batch" and batch.rounds > 1
        num_bytes += batch.rounds * (counts + sums) if every_round else sums
        num_messages += 2 * batch.rounds if every_round else 1
    return [Traffic("task losses", "all_reduce", num_bytes, num_messages, batch.world_size)]


def _stage_0(case: CommunicationCase, stage: int) -> list[Traffic]:
    num_elements, world_size = sum(case.layout.trained), case.batch.world_size
    gradients = Traffic(
        "gradients",
        "all_reduce",
        case.reduced_bytes * num_elements,
        -(-num_elements // _STAGE_0_BUCKET),
        world_size,
    )
    return [gradients, Traffic("norms", "all_reduce", 4, 1, world_size)]


def _stage_1_or_2(case: CommunicationCase, stage: int) -> list[Traffic]:
    world_size, zero, groups = case.batch.world_size, case.zero, case.layout.groups
    gradients = sum(case.layout.trained)
    to_all = zero.use_multi_rank_bucket_allreduce or not zero.reduce_scatter
    num_reductions = case.batch.rounds if stage == 2 else 1
    filled_up = [
        _multiple(sum(case.layout.sizes[index] for index in group), _ALIGNMENT * world_size)
        for group in groups
    ]
    num_buckets = _num_buckets(gradients, case)
    overflow = case.weight_bytes == 2  # a byte that says whether a gradient is no number
    return [
        Traffic(
            "gradients",
            "all_reduce" if to_all else "reduce",
            num_reductions * case.reduced_bytes * gradients,
            num_reductions * (num_buckets if to_all else max(num_buckets, world_size)),
            world_size,
        ),
        Traffic("parameters", "all_gather", case.weight_bytes * sum(filled_up), len(groups), world_size),
        Traffic("norms", "all_reduce", 4 * len(groups) + overflow, len(groups) + overflow, world_size),
    ]


def _stage_3(case: CommunicationCase, stage: int) -> list[Traffic]:
    batch, zero, layout, sizes = case.batch, case.zero, case.layout, case.layout.sizes
    world_size, rounds = batch.world_size, batch.rounds
    persistent = _persistent(case)
    gradients = sum(
        _multiple(size, world_size) if zero.reduce_scatter else size for size in case.layout.trained
    )
    gathered = _gathered(case, persistent)
    in_a_step = batch.rounds * gathered.backward_too + (
        rounds * gathered.forward if batch.extra_forward else 0
    )
    # A bucket of what comes next, the last of it whole.
    prefetched = zero.prefetch_bucket_size + max(sum(sizes[index] for index in own) for own in layout.modules)
    # With hierarchical partitioning a node keeps what it has gathered once, until parameters change.
    near = zero.zero_hpz_partition_size if zero.zero_hpz_partition_size > 1 else world_size
    afar = in_a_step if near == world_size else gathered.once
    traffic = [
        Traffic(
            "gradients",
            "reduce_scatter" if zero.reduce_scatter else "all_reduce",
            rounds * case.reduced_bytes * gradients,
            rounds * _num_buckets(gradients, case),
            world_size,
        ),
        _gathering("parameters", case, afar, -(-afar // prefetched), world_size),
        _gathering(
            "parameters within nodes", case, in_a_step - afar, -(-(in_a_step - afar) // prefetched), near
        ),
        _gathering(
            "persistent parameters",
            case,
            sum(_multiple(sizes[index], world_size) for index in persistent),
            len(persistent),
            world_size,
        ),
        Traffic("norms", "all_reduce", 8 * len(case.layout.groups), len(case.layout.groups), world_size),
    ]
    return [kind for kind in traffic if kind.num_bytes]


def _gathering(
    what: str, case: CommunicationCase, num_elements: int, num_messages: int, num_ranks: int
) -> Traffic:
    return Traffic(what, "all_gather", case.weight_bytes * num_elements, num_messages, num_ranks)


def _persistent(case: CommunicationCase) -> frozenset[int]:
    """Small parameters that stage 3 keeps whole everywhere, and gathers after each update, one by one."""
    zero, total = case.zero, 0
    kept = set()
    for index, size in enumerate(case.layout.sizes):
        if size <= zero.param_persistence_threshold and size + total <= zero.model_persistence_threshold:
            kept.add(index)
            total += size
    return frozenset(kept)


@dataclass(frozen=True)
class _Gathered:
    """Elements, with what fills up the ranks' parts: each divided parameter once; what a forward pass alone
    gathers; what it gathers with its backward pass.
    """

    once: int
    forward: int
    backward_too: int


def _gathered(case: CommunicationCase, persistent: frozenset[int]) -> _Gathered:
    layout, zero, world_size = case.layout, case.zero, case.batch.world_size
    # What the prefetcher has seen to come is not let go either.
    reach = max(zero.max_reuse_distance, min(zero.prefetch_bucket_size, zero.max_live_parameters))

    def gathered(modules: Sequence[tuple[int, ...]]) -> int:
        uses = _uses_to_gather(modules, layout.sizes, reach)
        return sum(_multiple(layout.sizes[index], world_size) for index in uses if index not in persistent)

    forward, backward = layout.modules, layout.modules[::-1]
    # An order that has been broken is of no use between the passes.
    both = (
        gathered(forward) + gathered(backward) if case.batch.extra_forward else gathered(forward + backward)
    )
    divided = (size for index, size in enumerate(layout.sizes) if index not in persistent)
    return _Gathered(
        once=sum(_multiple(size, world_size) for size in divided),
        forward=gathered(forward),
        backward_too=both,
    )


def _uses_to_gather(modules: Sequence[tuple[int, ...]], sizes: Sequence[int], reach: int) -> list[int]:
    """The parameter of each use that finds it let go, as modules follow one another.

    After a module DeepSpeed looks ahead, module by module, until it has passed `reach` elements, and lets go
    of what it has not met.
    """
    to_gather, passed = [], 0
    passed_after_use: dict[int, int] = {}
    for module in modules:
        for index in module:
            if index not in passed_after_use or passed - passed_after_use[index] >= reach:
                to_gather.append(index)
        passed += sum(sizes[index] for index in module)
        passed_after_use.update(dict.fromkeys(module, passed))
    return to_gather


def _num_buckets(num_elements: int, case: CommunicationCase) -> int:
    """The least of them that gradients fill; one that is larger than a bucket is sent alone."""
    return -(-num_elements // max(case.zero.reduce_bucket_size, *case.layout.trained))


def _multiple(number: int, divisor: int) -> int:
    """The next multiple."""
    return -(-number // divisor) * divisor

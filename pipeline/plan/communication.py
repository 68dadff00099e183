"""What a rank sends in a training step: the collectives of DeepSpeed 0.19.8, and those of the task losses.

The paper (Rajbhandari et al., ZeRO, 2020, section 7) counts, for P parameters, 2 P numbers a step at stages 0
to 2 and 3 P at stage 3. DeepSpeed sends something else, read in its source and measured on its engine:

- Stages 1 and 2 reduce gradients to everyone (`use_multi_rank_bucket_allreduce`), not each part to its owner:
  2 P, and P for the updated parameters. Stage 2 reduces after every micro-batch, stage 1 after the last.
- Stage 3 keeps a parameter between its forward and its backward pass if not much lies between them
  (`stage3_max_reuse_distance`), and gathers it once then, not twice; again for every micro-batch.
- After a forward pass without a backward one, as estimator `two_pass` makes, stage 3 keeps nothing from a
  forward to its backward pass any more: it gathers all parameters for every pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from pipeline.plan.batch import BatchPlan
from pipeline.plan.layout import Layout, Use, filled_up
from pipeline.plan.optimizer_traffic import ALIGNMENT, optimizer_traffic, vectors_of
from pipeline.plan.traffic import Traffic

_STAGE_0_BUCKET = 500_000_000
"""Elements; no key changes it."""
_LEFT_OUT = {
    "zero_quantized_weights": "weights are counted whole, and sent in 8 bits with scales",
    "zero_quantized_nontrainable_weights": "frozen weights are counted whole, and sent in 8 bits with scales",
    "zero_quantized_gradients": "gradients are counted whole, and sent twice in 4 bits with scales",
    "stage3_use_all_reduce_for_fetch_params": "parameters are counted as gathered, and sent twice",
    "leaf_module": "parameters are counted as gathered module by module",
}
"""Keys of zero_optimization that the figures of stage 3 do not follow, and what that means."""
_COUNT_BYTES, _SUM_BYTES = 8, 8
"""Task counts are int64, task sums fp64."""
_TASK_GRADIENT_BYTES = 4
_NUM_FLAGS = 2
"""What travels with the counts: the step's tokens, and how many ranks were told to stop."""


@dataclass(frozen=True)
class CommunicationCase:
    """What traffic depends on, but for the stage.

    `weight_bytes` is the size of a working weight, `reduced_bytes` that of a gradient on its way, `zero` the
    section of the DeepSpeed JSON with every key. `task_gradients` are the elements of the gradients that an
    objective asks for, those of all tasks.
    """

    layout: Layout
    batch: BatchPlan
    weight_bytes: int
    reduced_bytes: int
    zero: Any
    task_gradients: int = 0


def step_traffic(case: CommunicationCase, stage: int) -> list[Traffic]:
    """All collectives of a training step at a ZeRO stage; none for a single rank."""
    if case.batch.world_size == 1:
        return []
    of_stage = (_stage_0, _stage_1_or_2, _stage_1_or_2, _stage_3)[stage]
    of_update = optimizer_traffic(case.layout, stage, case.batch.world_size, case.zero.sub_group_size)
    return [*of_stage(case, stage), *of_update, *_task_traffic(case)]


def left_out(section: dict[str, Any]) -> list[str]:
    """What a section zero_optimization asks for that the figures of stage 3 do not follow, a line each."""
    return [f"{key}: {what}" for key, what in _LEFT_OUT.items() if section.get(key)]


def _task_traffic(case: CommunicationCase) -> list[Traffic]:
    """Counts before the first forward pass, sums before the weights and after the last backward pass.

    After that one also what the ranks have of the gradients of the tasks, where the objective asks for them.
    """
    batch = case.batch
    counts, sums = case.layout.num_terms * _COUNT_BYTES, case.layout.num_terms * _SUM_BYTES
    num_bytes, num_messages = counts + _NUM_FLAGS * _COUNT_BYTES + sums, 2
    if batch.reads_losses:
        every_round = batch.estimator == "batch" and batch.rounds > 1
        num_bytes += batch.rounds * (counts + sums) if every_round else sums
        num_messages += 2 * batch.rounds if every_round else 1
    traffic = [Traffic("task losses", "all_reduce", num_bytes, num_messages, batch.world_size)]
    if case.task_gradients:
        num_bytes = _TASK_GRADIENT_BYTES * case.task_gradients
        traffic.append(Traffic("task gradients", "all_reduce", num_bytes, 1, batch.world_size))
    return traffic


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
    parameters = sum(
        filled_up(sum(case.layout.sizes[index] for index in group.parameters), ALIGNMENT * world_size)
        for group in groups
    )
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
        Traffic("parameters", "all_gather", case.weight_bytes * parameters, len(groups), world_size),
        Traffic("norms", "all_reduce", 4 * len(groups) + overflow, len(groups) + overflow, world_size),
    ]


def _stage_3(case: CommunicationCase, stage: int) -> list[Traffic]:
    batch, zero, layout, sizes = case.batch, case.zero, case.layout, case.layout.sizes
    world_size, rounds = batch.world_size, batch.rounds
    persistent = _persistent(case)
    gradients = sum(filled_up(size, world_size) if zero.reduce_scatter else size for size in layout.trained)
    gathered = _gathered(case, persistent)
    in_a_step = batch.rounds * gathered.backward_too + (
        rounds * gathered.forward if batch.extra_forward else 0
    )
    # A bucket of what comes next, the last of it whole.
    prefetched = zero.prefetch_bucket_size + max(
        sum(sizes[index] for index in use.parameters) for use in layout.forward
    )
    # With hierarchical partitioning a node keeps what it has gathered once, until parameters change.
    near = zero.zero_hpz_partition_size if zero.zero_hpz_partition_size > 1 else world_size
    afar = in_a_step if near == world_size else gathered.once
    num_vectors = sum(
        1
        for group in layout.groups
        for _ in vectors_of(group.parameters, layout, 3, world_size, zero.sub_group_size)
    )
    offload = zero.offload_optimizer
    norm_bytes = 4 if offload and offload.device != "none" else 8
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
            sum(filled_up(sizes[index], world_size) for index in persistent),
            len(persistent),
            world_size,
        ),
        Traffic("norms", "all_reduce", norm_bytes * num_vectors, num_vectors, world_size),
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

    def gathered(uses: Sequence[Use]) -> int:
        to_gather = _uses_to_gather(uses, layout.sizes, reach)
        return sum(
            filled_up(layout.sizes[index], world_size) for index in to_gather if index not in persistent
        )

    forward, backward = layout.forward, layout.backward
    together = (
        gathered(forward) + gathered(backward) if case.batch.extra_forward else gathered(forward + backward)
    )
    divided = (size for index, size in enumerate(layout.sizes) if index not in persistent)
    return _Gathered(
        once=sum(filled_up(size, world_size) for size in divided),
        forward=gathered(forward),
        backward_too=together,
    )


def _uses_to_gather(uses: Sequence[Use], sizes: Sequence[int], reach: int) -> list[int]:
    """The parameter of each use that finds it let go, as uses follow one another.

    After a use DeepSpeed looks ahead, module by module, until it has passed `reach` elements, and lets go of
    what it has not met.
    """
    passed = list(accumulate((sum(sizes[index] for index in use.parameters) for use in uses), initial=0))
    to_gather = []
    ends: dict[int, int] = {}
    for number, use in enumerate(uses):
        for index in use.parameters:
            end = ends.get(index)
            if end is None or (end <= number and passed[number] - passed[end] >= reach):
                to_gather.append(index)
            ends[index] = max(end or 0, number + 1 + use.num_within)
    return to_gather


def _num_buckets(num_elements: int, case: CommunicationCase) -> int:
    """The least of them that gradients fill; one that is larger than a bucket is sent alone."""
    return -(-num_elements // max(case.zero.reduce_bucket_size, *case.layout.trained))

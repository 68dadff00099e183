"""Memory of a rank at each ZeRO stage: what DeepSpeed 0.19.8 holds, and when.

Everything is in bytes, as tensors count them. What is not a tensor of the training comes on top: CUDA's
context, NCCL's buffers, fragmentation.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.amounts import GIB
from pipeline.plan.simulation import Device, ParameterCounts, PassCounts

_MASTER_BYTES = 4
"""fp32: masters, moments, and the gradient that the optimizer reads."""
_NORM_BYTES = 8
"""DeepSpeed takes norms of gradients in fp64, a tensor at a time."""
_STAGE_0_BUCKET = 500_000_000
"""Elements that DeepSpeed's engine reduces at a time at stage 0; no key changes it."""
USABLE_MEMORY = 0.9
"""Part of a GPU's memory that tensors may fill; CUDA, NCCL and fragmentation take the rest."""


def usable_bytes(gpu_memory_gib: float) -> float:
    """Bytes that tensors may fill of a GPU's memory."""
    return USABLE_MEMORY * gpu_memory_gib * GIB


@dataclass(frozen=True)
class StageMemory:
    """Bytes per rank at a ZeRO stage.

    Parameters, optimizer (fp32 masters and moments) and gradients are what DeepSpeed's estimators count.
    Buffers are DeepSpeed's: reduction buckets, gathered parameters, copies of gradients. Not all of it is
    there at once: `peak` is the larger of the backward pass and the update.
    """

    stage: int
    parameters: int
    optimizer: int
    gradients: int
    buffers: int
    activations: int
    backward: int
    update: int

    @property
    def peak(self) -> int:
        """The most that a step takes."""
        return max(self.backward, self.update)


@dataclass(frozen=True)
class MemoryCase:
    """What the memory of a rank depends on, but for the stage.

    `weight_bytes` is the size of a working weight, `num_moments` what the optimizer keeps per parameter, on
    average, `accumulates` whether a rank has several micro-batches, `zero` the section of the DeepSpeed JSON
    with every key.
    """

    parameters: ParameterCounts
    counts: PassCounts
    weight_bytes: int
    gradient_bytes: int
    num_moments: float
    world_size: int
    accumulates: bool
    device: Device
    zero: Any


def stage_memory(case: MemoryCase, stage: int) -> StageMemory:
    """The memory of a rank at a stage."""
    return (_stage_0, _stage_1, _stage_2, _stage_3)[stage](case)


def _stage_0(case: MemoryCase) -> StageMemory:
    """Nothing is divided. In fp32 the working weights are the masters."""
    trained = case.parameters.num_trained
    parameters = case.weight_bytes * case.parameters.num_all
    optimizer = round(_MASTER_BYTES * case.num_moments * trained)
    gradients = case.weight_bytes * trained
    bucket = case.weight_bytes * min(_STAGE_0_BUCKET, trained) if case.world_size > 1 else 0
    states = parameters + optimizer
    return StageMemory(
        stage=0,
        parameters=parameters,
        optimizer=optimizer,
        gradients=gradients,
        buffers=bucket,
        activations=case.counts.activation_bytes,
        backward=states + _backward_with_gradients(case, gradients),
        update=states + gradients + bucket,
    )


def _stage_1(case: MemoryCase) -> StageMemory:
    """The optimizer's part is divided; every rank has whole gradients until it knows its own sum."""
    part = _part(case)
    gradients = case.gradient_bytes * case.parameters.num_trained
    set_aside, bucket = _buckets(case)
    parameters, optimizer = _whole_parameters(case), _divided_optimizer(case)
    states = parameters + optimizer
    unreduced = max(0, gradients - case.zero.reduce_bucket_size * case.gradient_bytes)
    kept, copy = case.gradient_bytes * _kept_for_update(case), _copy_of_bucket(case)
    reducing = bucket + unreduced + (kept + copy if unreduced else max(kept, copy))
    return StageMemory(
        stage=1,
        parameters=parameters,
        optimizer=optimizer,
        gradients=gradients + _fp32_gradient(part),
        buffers=bucket + max(kept, copy),
        activations=case.counts.activation_bytes,
        backward=states + set_aside + _backward_with_gradients(case, gradients),
        update=states + max(reducing, _update(case, part, kept)),
    )


def _stage_2(case: MemoryCase) -> StageMemory:
    """Gradients are reduced as they come, and each rank keeps its part; what waits is in the bucket."""
    part = _part(case)
    set_aside, bucket = _buckets(case)
    parameters, optimizer = _whole_parameters(case), _divided_optimizer(case)
    states = parameters + optimizer
    kept, copy = case.gradient_bytes * _kept_for_update(case), _copy_of_bucket(case)
    earlier = kept if case.accumulates else 0
    in_between = kept + copy if case.parameters.num_trained > case.zero.reduce_bucket_size else 0
    return StageMemory(
        stage=2,
        parameters=parameters,
        optimizer=optimizer,
        gradients=case.gradient_bytes * part + _fp32_gradient(part),
        buffers=bucket + max(kept, copy) + earlier,
        activations=case.counts.activation_bytes,
        backward=states + earlier + _backward_while_reducing(case, set_aside) + in_between,
        update=states + max(bucket + max(kept, copy) + earlier, _update(case, part, kept)),
    )


def _stage_3(case: MemoryCase) -> StageMemory:
    """Parameters are divided too, and gathered while they are used."""
    part = _part(case)
    set_aside, bucket = _buckets(case)
    own = -(-case.parameters.num_all // case.world_size)
    parameters = case.weight_bytes * own
    optimizer = _divided_optimizer(case)
    reduced = case.gradient_bytes * part  # a buffer from the start; DeepSpeed's estimator does not count it
    gathered = case.weight_bytes * min(case.parameters.num_all, case.zero.max_live_parameters)
    if case.world_size > 1:  # what has arrived is put together in memory of its own
        gathered += case.weight_bytes * min(case.parameters.num_all, case.zero.prefetch_bucket_size)
    sub_group = min(part, case.zero.sub_group_size)
    states = parameters + optimizer + reduced
    return StageMemory(
        stage=3,
        parameters=parameters,
        optimizer=optimizer,
        gradients=_fp32_gradient(part),
        buffers=bucket + gathered + reduced,
        activations=case.counts.activation_bytes,
        backward=states + gathered + _backward_while_reducing(case, set_aside),
        # From the second step on, what the next forward pass uses again stays gathered.
        update=states + gathered + bucket + _MASTER_BYTES * sub_group,
    )


def _part(case: MemoryCase) -> int:
    """Trained parameters per rank."""
    return -(-case.parameters.num_trained // case.world_size)


def _whole_parameters(case: MemoryCase) -> int:
    return case.weight_bytes * case.parameters.num_all


def _divided_optimizer(case: MemoryCase) -> int:
    """Masters, which are a copy of their own in fp32 too, and moments."""
    return round(_MASTER_BYTES * (1 + case.num_moments) * _part(case))


def _fp32_gradient(part: int) -> int:
    return _MASTER_BYTES * part


def _kept_for_update(case: MemoryCase) -> int:
    """Elements of the gradients that a rank keeps: whole tensors, though its part may cut the outer ones."""
    return min(case.parameters.num_trained, _part(case) + case.parameters.num_largest)


def _buckets(case: MemoryCase) -> tuple[int, int]:
    """Bytes of the reduction buckets that are set aside before gradients come, and that are full in the end.

    A GPU's allocator takes all of a bucket at once, a CPU gives a page when it is first written to.
    """
    elements = case.zero.reduce_bucket_size
    if case.device == "cpu" or not case.zero.contiguous_gradients:
        return 0, case.gradient_bytes * min(elements, case.parameters.num_trained)
    num_buckets = 2 if case.zero.overlap_comm and case.zero.stage != 3 else 1
    size = num_buckets * case.gradient_bytes * elements
    return size, size


def _copy_of_bucket(case: MemoryCase) -> int:
    """DeepSpeed flattens the bucket's slices for several ranks once more before it reduces them."""
    if case.world_size == 1 or not case.zero.reduce_scatter:
        return 0
    return case.gradient_bytes * min(case.zero.reduce_bucket_size, case.parameters.num_trained)


def _backward_with_gradients(case: MemoryCase, gradients: int) -> int:
    """Gradients of the micro-batches before are there from the start, those of a first one come with it."""
    if case.accumulates:
        return gradients + case.counts.activation_bytes
    return case.counts.activation_and_gradient_bytes


def _backward_while_reducing(case: MemoryCase, set_aside: int) -> int:
    """Gradients go to the bucket as they come; one that nothing is set aside for grows with them."""
    if set_aside:
        return set_aside + case.counts.activation_bytes
    return case.counts.activation_and_gradient_bytes


def _update(case: MemoryCase, part: int, kept: int) -> int:
    """The most that DeepSpeed adds between the last reduction and the optimizer: norm, flat copy, fp32."""
    norm = _NORM_BYTES * min(part, case.parameters.num_largest)
    flat = case.gradient_bytes * part if case.gradient_bytes != _MASTER_BYTES else 0
    return kept + max(norm, flat + _fp32_gradient(part))

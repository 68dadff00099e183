"""A micro-batch's forward and backward pass on tensors without data: its operations and its memory.

Every operation is dispatched as in training, at the real shapes; only the numbers are missing. So what is
counted follows the model, whatever the model is, and needs neither a GPU nor memory.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pipeline.engine.task_gradients import TaskGradients
from pipeline.models.interface import TaskModel
from pipeline.plan.gpu_operations import gpu_operations

_PASSES = 3
"""FLOPs of forward and backward pass in those of the forward pass, for a product of two activations."""
Device = Literal["gpu", "cpu"]
MakeCase = Callable[[bool], tuple[TaskModel, dict[str, Tensor]]]
"""A model and a micro-batch, made without data; True where the logits are to be kept whatever their size."""


@dataclass(frozen=True)
class PassCounts:
    """A micro-batch's forward and backward pass.

    FLOPs are those of the matrix products that the mathematics asks for, two for a multiplication with its
    addition; what an attention kernel or a loss kernel computes twice to save memory counts once. Bytes are
    the most that is held at one time beside parameters and inputs.
    """

    forward_flops: int
    """Hardware FLOPs of the forward pass alone."""
    flops: int
    """Model FLOPs: attention counts where it sees."""
    hardware_flops: int
    """With dense attention, with layers that run again in the backward pass, and with gradients of tasks."""
    activation_bytes: int
    """With each gradient dropped as soon as its parameter has it."""
    activation_and_gradient_bytes: int
    """With gradients kept, from none on."""


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, a shared one once; `num_trained` of them are optimised."""

    num_all: int
    num_trained: int
    num_largest: int
    """Of the largest single tensor among the trained ones."""


def count_parameters(network: nn.Module) -> ParameterCounts:
    """The parameters that a network holds; it may lie on the meta device."""
    trained = [p.numel() for p in network.parameters() if p.requires_grad]
    return ParameterCounts(sum(p.numel() for p in network.parameters()), sum(trained), max(trained))


def count_pass(
    make: MakeCase,
    dtype: torch.dtype,
    device: Device,
    prepare: Callable[[TaskModel], None] | None = None,
    gradients_of: Sequence[int] = (),
) -> PassCounts:
    """Simulate a training pass of what `make` makes, with weights in `dtype`.

    Args:
        make: called afresh for each simulation, with the types and tensors of the simulation around it.
        dtype: of the working weights.
        device: whose choice of operations is followed.
        prepare: what has layers of the model run again, if anything.
        gradients_of: loss terms whose gradients at the shared layer are made beside the model's.
    """

    def make_prepared(keep_logits: bool) -> tuple[TaskModel, dict[str, Tensor]]:
        model, inputs = make(keep_logits)
        if prepare:
            prepare(model)
        return model, inputs

    forward_flops, dense_flops, unseen_flops = _dense_flops(make, dtype)
    flops = dense_flops - _PASSES * unseen_flops
    does_more = prepare or gradients_of
    hardware_flops = _dense_flops(make_prepared, dtype, gradients_of)[1] if does_more else dense_flops
    peak_bytes = _peak_bytes(make_prepared, dtype, device, gradients_of)
    return PassCounts(forward_flops, flops, hardware_flops, *peak_bytes)


def count_flops(
    make: MakeCase, dtype: torch.dtype = torch.float32, gradients_of: Sequence[int] = ()
) -> tuple[int, int]:
    """Model FLOPs of the forward pass, and of forward and backward pass, of what `make` makes.

    The latter with those of the gradients of loss terms at the shared layer, if there are to be some.
    """
    forward_flops, flops, unseen_flops = _dense_flops(make, dtype, gradients_of)
    return forward_flops - unseen_flops, flops - _PASSES * unseen_flops


def _dense_flops(
    make: MakeCase, dtype: torch.dtype, gradients_of: Sequence[int] = ()
) -> tuple[int, int, int]:
    """As `count_flops`, with all pairs of attention; then those of the forward pass for pairs unseen."""
    flops = FlopCounterMode(display=False)
    with without_data(dtype):
        model, inputs = make(True)
        with flops, sdpa_kernel(SDPBackend.MATH):
            loss = _loss(model, inputs, gradients_of)
            forward_flops = flops.get_total_flops()
            loss.backward()
    return forward_flops, flops.get_total_flops(), model.unseen_flops(inputs)


@contextmanager
def without_data(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that are made here have shapes and types, `dtype` by default, and no memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        # What a kernel takes from elsewhere than torch, such as huge pages, is taken for what it would be.
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.set_default_dtype(before)


def _peak_bytes(
    make: MakeCase, dtype: torch.dtype, device: Device, gradients_of: Sequence[int]
) -> tuple[int, int]:
    """The most that is held at one time, without the gradients that parameters have, and with them."""
    with without_data(dtype), ExitStack() as modes:
        model, inputs = make(False)
        if device == "gpu":
            modes.enter_context(gpu_operations())
        memory = modes.enter_context(LiveStorages())
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(memory.set_gradient_aside)
        _loss(model, inputs, gradients_of).backward()
        return memory.peak_bytes_of_others, memory.peak_bytes


def _loss(model: TaskModel, inputs: dict[str, Tensor], gradients_of: Sequence[int]) -> Tensor:
    gradients = TaskGradients(model, gradients_of) if gradients_of else None
    sums, _ = model.train().task_losses(inputs)
    if gradients:
        gradients.follow(inputs, sums)
    return sums.sum()


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of storages that operations within it make, until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        self._live_bytes = 0
        self._gradient_bytes = 0
        self.peak_bytes = 0
        self.peak_bytes_of_others = 0
        """Without gradients from the moment on that they are set aside."""

    def set_gradient_aside(self, parameter: Tensor) -> None:
        """Count the gradient that a parameter has got among gradients; it must stay."""
        assert parameter.grad is not None
        self._gradient_bytes += parameter.grad.nbytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and look at what it returns."""
        result = func(*args, **(kwargs or {}))
        before = {t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in before:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        num_bytes = storage.nbytes()
        self._live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        others = self._live_bytes - self._gradient_bytes
        self.peak_bytes_of_others = max(self.peak_bytes_of_others, others)
        weakref.finalize(storage, self._remove, num_bytes)

    def _remove(self, num_bytes: int) -> None:
        self._live_bytes -= num_bytes

"""What the Triton launchers would start on a given GPU, recorded without one.

The launchers run on tensors without memory; instead of starting a kernel, its arguments are noted. So what is
compiled and checked is what a run would launch: kernel, types, alignments, configuration and grid.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from task_kernels import triton_rows, triton_tiles, triton_weights
from task_kernels.triton_targets import Target
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend
from triton.runtime.jit import JITFunction

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}
NAMES |= {torch.int64: "i64", torch.int32: "i32", torch.uint8: "u8"}
LAUNCHERS = (triton_rows, triton_tiles, triton_weights)


@dataclass
class Launch:
    """One kernel with the arguments of one launch; `options` are num_warps and num_stages."""

    kernel: JITFunction
    problem: str
    target: Target
    arguments: dict[str, Any]
    options: dict[str, int]
    grid: tuple[int, ...]
    needs: tuple[str, ...] = field(default=())

    @property
    def programs(self) -> int:
        """Programs of the grid."""
        return math.prod(self.grid)

    def source(self) -> tuple[dict[str, str], dict[tuple[int], list[Any]], dict[tuple[int], Any]]:
        """Signature, attributes and constants, specialised as a launch specialises them."""
        backend = make_backend(gpu_target(self.target))
        signature, attributes, constants = {}, {}, {}
        for place, parameter in enumerate(self.kernel.params):
            value = self.arguments[parameter.name]
            if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
                signature[parameter.name] = "constexpr"
                constants[(place,)] = value
                continue
            signature[parameter.name] = parameter.annotation_type or type_name(value)
            if isinstance(value, Tensor):
                attributes[(place,)] = backend.parse_attr(
                    backend.get_tensor_specialization(value, align=True)
                )
            elif isinstance(value, int) and value % 16 == 0:
                attributes[(place,)] = [["tt.divisibility", 16]]
        return signature, attributes, constants


def gpu_target(target: Target) -> GPUTarget:
    """The compiler's name of the target."""
    return GPUTarget(target.backend, target.arch, target.warp_size)


def type_name(value: Tensor | int | float) -> str:
    """As signatures name types: a pointer, or the smallest integer type that a launch takes."""
    if isinstance(value, Tensor):
        return "*" + NAMES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


@contextlib.contextmanager
def recording(
    problem: str, target: Target, processors: int, needs: dict[str, tuple[str, ...]]
) -> Iterator[list[Launch]]:
    """Collects the launches of the launchers called inside, as for `target`; `needs` goes by kernel name."""
    launches: list[Launch] = []

    def note(kernel: JITFunction, *values: Any, grid: tuple[int, ...], warmup: bool, **named: Any) -> None:
        names = [parameter.name for parameter in kernel.params]
        arguments = dict(zip(names, values, strict=False)) | {n: v for n, v in named.items() if n in names}
        options = {name: value for name, value in named.items() if name not in names}
        launches.append(
            Launch(kernel, problem, target, arguments, options, grid, needs.get(kernel.__name__, ()))
        )

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(JITFunction, "run", note))
        for module in LAUNCHERS:
            for name, value in (("target_of", target), ("num_processors", processors)):
                if hasattr(module, name):
                    patches.enter_context(mock.patch.object(module, name, lambda _, value=value: value))
        yield launches

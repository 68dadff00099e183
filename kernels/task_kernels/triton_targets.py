"""What the Triton kernels must know of a device to choose their configuration."""

from dataclasses import dataclass
from functools import cache

import torch
import triton

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether the kernels of this process run in Triton's interpreter, on CPU tensors."""


@dataclass(frozen=True)
class Target:
    """A GPU as the compiler sees it: ("cuda", 90) is an H100, ("hip", "gfx942") an MI300X."""

    backend: str
    arch: int | str

    @property
    def warp_size(self) -> int:
        """Lanes of a warp; AMD's compute GPUs have 64."""
        return 64 if self.backend == "hip" else 32

    @property
    def shared_bytes(self) -> int:
        """Published limit of shared memory per block, as CUDA's and ROCm's guides give it."""
        if self.backend == "hip":
            return 163_840 if self.arch == "gfx950" else 65_536
        return {80: 166_912, 87: 166_912, 90: 232_448, 100: 232_448, 103: 232_448}.get(
            int(self.arch), 101_376
        )


@cache
def target_of(device: torch.device) -> Target:
    """The target of a CUDA or ROCm device; for the interpreter's CPU tensors, that of an H100."""
    if device.type == "cpu":
        return Target("cuda", 90)
    if torch.version.hip:
        return Target("hip", torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0])
    major, minor = torch.cuda.get_device_capability(device)
    return Target("cuda", 10 * major + minor)


@cache
def num_processors(device: torch.device) -> int:
    """Streaming multiprocessors or compute units; 1 for the interpreter, which runs one program at a time."""
    return 1 if device.type == "cpu" else torch.cuda.get_device_properties(device).multi_processor_count

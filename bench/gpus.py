"""The GPUs that kernels are compiled and estimated for, with the vendors' published figures."""

from dataclasses import dataclass

from task_kernels.triton_targets import Target


@dataclass(frozen=True)
class Gpu:
    """Published peaks: memory in bytes/s, dense bf16 with fp32 sums in FLOP/s, the boost clock in Hz.

    A processor is a streaming multiprocessor or a compute unit. In one, `lanes` threads are issued an
    instruction each cycle (four warps of 32; four SIMD units of 16), and `threads` threads, with `registers`
    registers of 32 bits, can be resident.
    """

    name: str
    target: Target
    processors: int
    bandwidth: float
    matrix_rate: float
    clock: float
    lanes: int = 128
    registers: int = 65_536
    threads: int = 2_048

    @property
    def architecture(self) -> str:
        """As compilers name it."""
        return str(self.target.arch) if self.target.backend == "hip" else f"sm_{self.target.arch}"


GPUS = (
    Gpu("A100 SXM 80 GB", Target("cuda", 80), 108, 2.039e12, 312e12, 1.41e9),
    Gpu("H100 SXM", Target("cuda", 90), 132, 3.35e12, 989e12, 1.83e9),
    Gpu("B200", Target("cuda", 100), 148, 8.0e12, 2_250e12, 1.86e9),
    Gpu(
        "RTX PRO 6000 Blackwell Workstation",
        Target("cuda", 120),
        188,
        1.792e12,
        503e12,
        2.62e9,
        threads=1_536,
    ),
    Gpu("MI300X", Target("hip", "gfx942"), 304, 5.3e12, 1_307e12, 2.1e9, lanes=64, registers=131_072),
)

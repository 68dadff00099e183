"""Triton: that it compiles a kernel, from an empty cache, and that the kernel computes."""

import os
import tempfile
from importlib.metadata import PackageNotFoundError, version

import torch

from pipeline.doctor.finding import Finding, State
from pipeline.doctor.isolation import shortened


def examine() -> Finding:
    """Compile a kernel and run it, where there is a GPU for it."""
    try:
        installed = version("triton")
    except PackageNotFoundError:
        installed = ""
    if not torch.cuda.is_available():
        return Finding(State.UNUSED, f"no GPU; {installed or 'not'} installed")
    if not installed:
        return Finding(State.ABSENT, "not installed: plain torch computes the losses", "pip install triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return Finding(State.WARNING, f"{installed}, interpreted, which is slow", "unset TRITON_INTERPRET")
    try:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["TRITON_CACHE_DIR"] = cache
            doubled = _doubled(torch.arange(64, device="cuda"))
    except Exception as error:  # compilers, linkers and drivers raise what they like
        return Finding(
            State.BROKEN,
            shortened(f"{installed} compiles no kernel: {type(error).__name__}: {error}"),
            "it needs a C compiler (gcc on PATH, or CC=…) with Python's headers (python3-dev), and libcuda",
        )
    if doubled != list(range(0, 128, 2)):
        return Finding(State.BROKEN, f"{installed}: a kernel computes something wrong")
    return Finding(State.WORKS, f"{installed}, compiled a kernel")


def _doubled(x: torch.Tensor) -> list[int]:
    from pipeline.doctor.triton_kernel import double

    result = torch.empty_like(x)
    double[(1,)](x, result, SIZE=x.numel())
    return result.tolist()

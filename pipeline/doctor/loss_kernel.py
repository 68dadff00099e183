"""The loss kernel: what computes it here, and that it agrees with plain torch."""

import importlib
from importlib.util import find_spec

import torch
from task_kernels import Impl, task_loss_sums
from torch import Tensor

from pipeline.doctor.finding import Finding, State

_TOLERANCE = 1e-4
"""Relative difference from the reference that fp32 explains."""


def examine() -> Finding:
    """Losses and gradients of a small input, against the reference in fp64."""
    on_gpu = torch.cuda.is_available()
    if on_gpu and find_spec("triton") is None:
        return Finding(State.WARNING, "plain torch; Triton is several times faster", "pip install triton")
    impl: Impl = "triton" if on_gpu else "cpu"
    module = "triton_backend" if on_gpu else "cpu"
    how = importlib.import_module(f"task_kernels.{module}").description(torch.float32)
    difference = _difference(impl, torch.device("cuda" if on_gpu else "cpu"))
    found = f"{how}, within {difference:.0e} of the reference"
    if not difference < _TOLERANCE:
        return Finding(
            State.BROKEN, f"{how}: differs by {difference:.1g} from the reference", "make operator"
        )
    if not on_gpu and "C++" not in how:
        return Finding(
            State.WARNING,
            f"{found}; its C++ operator, which is faster, is not built",
            "make operator (it takes g++)",
        )
    return Finding(State.WORKS, found)


def _difference(impl: Impl, device: torch.device) -> float:
    """The largest difference of sums and gradients, relative to the largest true value."""
    draw = torch.Generator().manual_seed(0)
    num_rows, num_classes, width, num_tasks = 64, 1_000, 32, 9
    hidden = torch.randn(num_rows, width, generator=draw, dtype=torch.float64)
    weight = torch.randn(num_classes, width, generator=draw, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_rows,), generator=draw).to(device)
    task_ids = torch.randint(num_tasks, (num_rows,), generator=draw).to(device)

    def results(impl: Impl, dtype: torch.dtype) -> list[Tensor]:
        h, w = (x.to(device, dtype).requires_grad_() for x in (hidden, weight))
        sums, _ = task_loss_sums(h, w, None, labels, task_ids, num_tasks, impl=impl)
        gradients = torch.autograd.grad(sums @ torch.arange(num_tasks).to(sums), (h, w))
        return [sums.detach(), *gradients]

    true = results("reference", torch.float64)
    found = results(impl, torch.float32)
    return max(float((x.double() - y).abs().max() / y.abs().max()) for x, y in zip(found, true, strict=True))

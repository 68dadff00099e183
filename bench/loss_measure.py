"""Errors, times and peak memory of the variants on one case."""

import ctypes
import gc
import math
import multiprocessing
import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch
from loss_peers import (
    BOUNDS,
    OURS,
    PEERS,
    PLAIN,
    VARIANTS,
    Case,
    Problem,
    Step,
    Unavailable,
    has_operator,
    make_problem,
    truth,
)
from machine import machine, resident_bytes

SLOW, SLOW_S = 3, 0.5
"""A peer that took over so many times plain torch, and seconds, in the first round is timed no more."""

TOLERANCES = {"fp32": (1e-5, 1e-4), "bf16": (1e-2, 2e-2)}
"""Of the losses and of the gradients. In bf16 peers round each row's loss to 2⁻⁹ of it."""


@dataclass
class Result:
    """What was found about one variant."""

    name: str
    errors: dict[str, float] = field(default_factory=dict)
    """Largest relative error of the losses per task, and of each gradient over its largest entry."""
    wrong: bool = False
    seconds: list[float] = field(default_factory=list)
    """One for each round it was timed in, from the first round on."""
    peak_bytes: int | None = None
    note: str = ""
    """Why numbers are missing."""


@dataclass
class Found:
    """The results of a case, by name, in the order of VARIANTS."""

    case: Case
    results: dict[str, Result]


def where(device: str) -> str:
    """What the benchmark runs on."""
    peers = [name for name in ("triton", "liger_kernel", "cut_cross_entropy") if find_spec(name)]
    lines = [machine("torch", *peers), f"threads: {torch.get_num_threads()}"]
    lines.append(f"load average before: {os.getloadavg()[0]:.1f}")
    if device == "cuda":
        lines.append(torch.cuda.get_device_name())
    else:
        lines.append(f"compiled operator: {'yes' if has_operator() else 'no'}")
    return ", ".join(lines)


def measure(case: Case, rounds: int) -> Found:
    """Check every variant, time those that are right, and take their peak memory."""
    results = {name: Result(name) for name in VARIANTS}
    problem = make_problem(case)
    steps = check(case, problem, results)
    time_rounds(problem, steps, results, rounds)
    del problem
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, max_tasks_per_child=1) as fresh_processes:
        peaks = {name: fresh_processes.submit(peak_bytes, case, name) for name in steps}
    for name, peak in peaks.items():
        results[name].peak_bytes = peak.result()
    return Found(case, results)


def check(case: Case, problem: Problem, results: dict[str, Result]) -> dict[str, Step]:
    """One step of each, its errors noted; the steps of those that are right."""
    sums, gradients = truth(problem)
    right = {}
    for name, result in results.items():
        try:
            step = VARIANTS[name](case.device)
            actual = step(problem)
        except Unavailable as reason:
            result.note = str(reason)
            continue
        except Exception as error:  # whatever a peer raises, the others are to be measured
            lines = str(error).strip().splitlines()
            result.note = f"failed: {type(error).__name__}: {lines[0] if lines else ''}"
            result.wrong = name in OURS
            continue
        if name not in BOUNDS:
            assert isinstance(actual, torch.Tensor)
            result.errors = relative_errors(problem, actual, sums, gradients)
            result.wrong = not within_tolerance(result.errors, case.dtype)
        if not result.wrong:
            right[name] = step
    return right


def relative_errors(
    problem: Problem, actual: torch.Tensor, sums: torch.Tensor, gradients: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Of the sums [T], the largest of all tasks; of a gradient, its largest error over its largest entry."""
    tiny = torch.finfo(torch.float32).tiny
    errors = {"losses": ((actual.double() - sums).abs() / sums.abs().clamp(min=tiny)).max().item()}
    for name, leaf in problem.leaves.items():
        if leaf.grad is None:
            errors[name] = math.inf
            continue
        error = (leaf.grad.double() - gradients[name]).abs().max()
        errors[name] = (error / gradients[name].abs().max().clamp(min=tiny)).item()
    return errors


def within_tolerance(errors: dict[str, float], dtype: str) -> bool:
    """Whether all errors are; NaN is not."""
    of_losses, of_gradients = TOLERANCES[dtype]
    return all(error <= (of_losses if name == "losses" else of_gradients) for name, error in errors.items())


def time_rounds(problem: Problem, steps: dict[str, Step], results: dict[str, Result], rounds: int) -> None:
    """Rounds in which each variant takes one step, in a random order; the check was their warm-up."""
    shuffled, left = random.Random(0), dict(steps)  # noqa: S311 - an order, no secret
    for number in range(rounds):
        for name in shuffled.sample(list(left), len(left)):
            results[name].seconds.append(step_seconds(left[name], problem))
        if number == 0 and PLAIN in left:
            limit = max(SLOW * results[PLAIN].seconds[0], SLOW_S)
            for name in [name for name in PEERS if name in left and results[name].seconds[0] > limit]:
                del left[name]
                results[name].note = f"over {SLOW} times as slow as plain torch, so timed in one round only"


def step_seconds(step: Step, problem: Problem) -> float:
    """Wall time of a step."""
    is_cuda = problem.hidden.is_cuda
    if is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    step(problem)
    if is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(case: Case, name: str) -> int | None:
    """Peak of a step over what is resident before it: the inputs, and what a first step has loaded.

    To be called in a process of its own. None where the system cannot tell.
    """
    problem = make_problem(case)
    step = VARIANTS[name](case.device)
    step(problem)
    for leaf in problem.leaves.values():
        leaf.grad = None
    gc.collect()
    if case.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(problem)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    reset = Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        return None
    ctypes.CDLL(None).malloc_trim(0)  # the allocator keeps freed memory, which would count as resident before
    reset.write_text("5")
    before = resident_bytes("VmRSS")
    step(problem)
    return resident_bytes("VmHWM") - before

"""What `objectives.py` measures: operations, passes, memory and time of a step under each objective."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from machine import resident_bytes
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from train_step_cases import Sizes, run_config
from train_step_engines import OurSteps
from train_step_measure import AVERAGE, BATCH, EMA, TWO_PASS, settled_bytes, take_turns

from pipeline.data.shards import Shards
from pipeline.engine.launch import Place

NUM_FIRST = 3
"""Steps before the timed ones: the first allocates, one is counted, one is watched for its memory."""
STAGE = 1
LIMITS = {BATCH: (1.0, 1.01), EMA: (1.0, 1.01), TWO_PASS: (1.32, 1.34)}
"""FLOPs ÷ those of `average`, in a step of several micro-batches; the paper charges 2 for minimax."""


@dataclass
class Cost:
    """What steps of one objective cost."""

    name: str
    flops: int
    """Of matrix products, in one step."""
    num_forward: int
    num_backward: int
    """Passes in the same step, all micro-batches together."""
    peak_bytes: int | None
    """The most within a step over what is held between steps; None where the system cannot tell."""
    first_loss: float
    cpu_s: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """Of each timed step."""


def variants(tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every objective, and minimax with each estimator; the others have the one that a run has by default."""
    alike = dict.fromkeys(tasks, 1.0)
    others = ("token_mean", "group_dro", "tchebycheff", "uncertainty", "dwa", "famo", "gradnorm")
    return {
        AVERAGE: {"name": "average"},
        BATCH: {"name": "minimax", "estimator": "batch"},
        EMA: {"name": "minimax", "estimator": "ema"},
        TWO_PASS: {"name": "minimax", "estimator": "two_pass"},
        "static": {"name": "static", "weights": alike},
        "excess": {"name": "excess", "reference_losses": alike},
        **{name: {"name": name} for name in others},
    }


def measure(sizes: Sizes, shards: Path, rounds: int, place: Place) -> dict[str, Cost]:
    """Take the same steps under each objective; in the timed ones they take turns."""
    sizes = replace(sizes, num_steps=NUM_FIRST + rounds)
    steps = {
        name: OurSteps(run_config(shards, sizes, objective), STAGE, place)
        for name, objective in variants(Shards(shards).task_names).items()
    }
    costs = {name: first_steps(name, each) for name, each in steps.items()}
    take_turns(steps, rounds)
    for name, each in steps.items():
        costs[name].cpu_s = each.clock.cpu_s[NUM_FIRST:]
        costs[name].seconds = [sum(regions.values()) for regions in each.clock.steps[NUM_FIRST:]]
    return costs


def first_steps(name: str, steps: OurSteps) -> Cost:
    """The steps that are not timed."""
    steps.step()
    countable = sdpa_kernel(SDPBackend.MATH)  # of the others not all are counted
    with countable, Passes(steps.model) as passes, FlopCounterMode(display=False) as flops:
        steps.step()
    peak_bytes = None
    if os.access("/proc/self/clear_refs", os.W_OK):
        before = settled_bytes()
        steps.step()
        peak_bytes = resident_bytes("VmHWM") - before
    else:
        steps.step()
    counts = passes.num_forward, passes.num_backward
    return Cost(name, flops.get_total_flops(), *counts, peak_bytes, steps.losses[0])


class Passes:
    """Counts the passes through a model that returns loss sums first."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.num_forward = self.num_backward = 0

    def __enter__(self) -> "Passes":
        self._hook = self._model.register_forward_hook(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _seen(self, _model: nn.Module, _inputs: object, outputs: tuple[Tensor, Tensor]) -> None:
        self.num_forward += 1
        if outputs[0].requires_grad:
            outputs[0].register_hook(self._seen_backward)

    def _seen_backward(self, _gradient: Tensor) -> None:
        self.num_backward += 1


def wrong(costs: dict[str, Cost], *, accumulates: bool) -> list[str]:
    """What contradicts the claims; without accumulation two_pass has nothing to estimate."""
    average = costs[AVERAGE]
    found = []
    for name, cost in costs.items():
        if abs(cost.first_loss - average.first_loss) > 1e-6 * average.first_loss:
            found.append(f"{name}: first loss {cost.first_loss:.6f}, not {average.first_loss:.6f}")
        least, most = LIMITS.get(name, (1.0, float("inf")))
        if name == TWO_PASS and not accumulates:
            least, most = LIMITS[BATCH]
        ratio = cost.flops / average.flops
        if not least <= ratio <= most:
            found.append(f"{name}: {ratio:.4f} times the FLOPs of {AVERAGE}, not {least:g} to {most:g}")
    return found

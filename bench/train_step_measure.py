"""The parts of `train_step.py`: which variants take turns, and on what they must agree."""

import ctypes
import gc
import math
import multiprocessing
import os
import random
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from machine import resident_bytes
from train_step_cases import Sizes, demo_config, run_config
from train_step_engines import OurSteps
from train_step_peer import TrainerSteps, our_loss, peer_loss, without_launcher

from pipeline.config import RunConfig
from pipeline.engine.ds_config import default_ds_config, zero_stage
from pipeline.engine.launch import Place, join_ranks

WARM_UP = 1
"""First steps that are not timed: they allocate, and bring code into memory."""
MOST_ROUNDS_OF_BASE, MOST_SEQUENCES_OF_BASE = 3, 16
AVERAGE, BATCH, EMA, TWO_PASS = "average", "minimax, batch", "minimax, ema", "minimax, two_pass"
TRAINER, OURS, OURS_GROUP = "Trainer", "ours", "ours, masking.policy=group"
PLAIN, STAGE_0, STAGE_1 = "without DeepSpeed", "DeepSpeed stage 0", "DeepSpeed stage 1"
FP32, BF16 = "fp32", "bf16"
STAGES = {PLAIN: None, STAGE_0: 0, STAGE_1: 1}
OBJECTIVES: dict[str, dict[str, Any]] = {
    AVERAGE: {"name": "average"},
    BATCH: {"name": "minimax", "estimator": "batch"},
    EMA: {"name": "minimax", "estimator": "ema"},
    TWO_PASS: {"name": "minimax", "estimator": "two_pass"},
}


@dataclass
class Result:
    """What was found about one variant."""

    name: str
    regions: list[dict[str, float]] = field(default_factory=list)
    """Of each timed step, the seconds of its regions."""
    cpu_s: list[float] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    num_labels: list[int] = field(default_factory=list)
    """Of each timed step, pieces without padding, and masked ones."""
    losses: list[float] = field(default_factory=list)
    """Of each step, the warm-up included; beside Trainer, of one batch before all steps and after."""
    resident_bytes: int | None = None
    """Between two steps, over what the imports left."""
    peak_bytes: int | None = None
    """Within a step, over the same."""

    @property
    def seconds(self) -> list[float]:
        """Of each timed step."""
        return [sum(regions.values()) for regions in self.regions]


@dataclass
class Found:
    """A part's results by name; ratios are to `base`."""

    part: str
    title: str
    base: str
    results: dict[str, Result]
    sizes: Sizes | None = None
    """None in the demo."""
    wrong: list[str] = field(default_factory=list)
    """Where results disagree that must not."""


def objectives(sizes: Sizes, shards: Path, rounds: int, place: Place) -> Found:
    """(a) One step of several forward passes under each objective and estimator."""
    sizes = replace(sizes, num_steps=WARM_UP + rounds)
    variants = {
        name: OurSteps(run_config(shards, sizes, objective), 1, place)
        for name, objective in OBJECTIVES.items()
    }
    take_turns(variants, WARM_UP + rounds)
    title = f"(a) objectives: {sizes.title} in {sizes.batch // sizes.micro} forward passes"
    found = Found("a", title, AVERAGE, {name: timed(name, steps) for name, steps in variants.items()}, sizes)
    for name, result in found.results.items():
        compare(found, name, "first loss", result.losses[0], found.results[AVERAGE].losses[0], 1e-6)
    return found


def peers(sizes: Sizes, shards: Path, rounds: int, place: Place) -> Found:
    """(b) Trainer and ours, one forward pass a step, on the same sequences."""
    if sizes.model == "base":
        rounds = min(rounds, MOST_ROUNDS_OF_BASE)
        sizes = replace(sizes, batch=min(sizes.batch, MOST_SEQUENCES_OF_BASE))
    sizes = replace(sizes, micro=sizes.batch, num_steps=WARM_UP + rounds)
    anywhere = run_config(shards, sizes, OBJECTIVES[BATCH], masking={"policy": "random"})
    stage = _stage_of_one_rank(sizes.precision)
    trainer = TrainerSteps(anywhere)
    ours = {
        OURS: OurSteps(anywhere, stage, place),
        OURS_GROUP: OurSteps(run_config(shards, sizes, OBJECTIVES[BATCH]), stage, place),
    }
    if sizes.precision == FP32:  # it is DeepSpeed that casts
        ours[f"{OURS}, {PLAIN}"] = OurSteps(anywhere, None, place)

    def losses() -> dict[str, float]:
        alike = {name: steps for name, steps in ours.items() if name != OURS_GROUP}  # group: other masks
        of_ours = {name: our_loss(steps.model, anywhere) for name, steps in alike.items()}
        return {TRAINER: peer_loss(trainer.model, anywhere), **of_ours}

    first = losses()
    trainer.run(between=lambda: take_turns(ours, 1))
    last = losses()
    variants: dict[str, TrainerSteps | OurSteps] = {TRAINER: trainer, **ours}
    results = {name: timed(name, steps) for name, steps in variants.items()}
    found = Found("b", f"(b) Trainer: {sizes.title}", TRAINER, results, sizes)
    tolerance = 1e-5 if sizes.precision == FP32 else 1e-2
    results[OURS_GROUP].losses = []
    for name in first:
        results[name].losses = [first[name], last[name]]
        compare(found, name, "loss before the first step", first[name], first[TRAINER], tolerance)
        # Trainer masks other words and does not weigh tasks, so only ours end alike.
        if not last[name] < first[name]:
            found.wrong.append(f"{found.title}: {name} has not learned: {first[name]:.4f}, {last[name]:.4f}")
        if name != TRAINER:
            compare(found, name, "loss after the last step", last[name], last[OURS], 1e-4)
    for name, result in found.results.items():
        if result.num_tokens != found.results[TRAINER].num_tokens:
            found.wrong.append(f"{found.title}: {name} read other sequences than Trainer")
    return found


def engines(sizes: Sizes, shards: Path, rounds: int, place: Place) -> Found:
    """(c) The same loop with DeepSpeed's engine and without, in fp32."""
    sizes = replace(sizes, precision=FP32, micro=sizes.batch, num_steps=WARM_UP + rounds)
    config = run_config(shards, sizes, OBJECTIVES[BATCH])
    variants = {name: OurSteps(config, stage, place) for name, stage in STAGES.items()}
    take_turns(variants, WARM_UP + rounds)
    results = {name: timed(name, steps) for name, steps in variants.items()}
    found = Found("c", f"(c) engine: {sizes.title}", PLAIN, results, sizes)
    for name, result in found.results.items():
        compare(found, name, "last loss", result.losses[-1], found.results[PLAIN].losses[-1], 1e-4)
    return found


def memory(sizes: Sizes, shards: Path) -> Found:
    """(d) What is held between steps, and at most within one, in fp32; each in a process of its own."""
    sizes = replace(sizes, precision=FP32, micro=sizes.batch, num_steps=3)
    config = run_config(shards, sizes, OBJECTIVES[BATCH], masking={"policy": "random"})
    found = Found("d", f"(d) memory: {sizes.title}", PLAIN, {}, sizes)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn, max_tasks_per_child=1) as fresh_processes:
        amounts = {
            name: fresh_processes.submit(memory_of, name, config) for name in (TRAINER, PLAIN, STAGE_1)
        }
    for name, amount in amounts.items():
        resident, peak = amount.result()
        found.results[name] = Result(name, resident_bytes=resident, peak_bytes=peak)
    return found


def precisions(shards: Path, rounds: int, place: Place) -> Found:
    """(e) The demo's model in fp32 and in bf16."""
    variants = {
        name: OurSteps(demo_config(shards, name), _stage_of_one_rank(name), place) for name in (FP32, BF16)
    }
    take_turns(variants, WARM_UP + rounds)
    found = Found("e", "(e) the demo in bf16", FP32, {name: timed(name, v) for name, v in variants.items()})
    compare(found, BF16, "last loss", found.results[BF16].losses[-1], found.results[FP32].losses[-1], 2e-2)
    return found


def take_turns(variants: Mapping[str, OurSteps], rounds: int) -> None:
    """Rounds in which each takes a step, in another order each time."""
    for _ in range(rounds):
        for name in SHUFFLED.sample(list(variants), len(variants)):
            variants[name].step()


SHUFFLED = random.Random(0)  # noqa: S311 - an order, no secret


def timed(name: str, steps: OurSteps | TrainerSteps) -> Result:
    """The steps after the warm-up."""
    regions = steps.clock.steps[WARM_UP:]
    tokens, labels = steps.num_tokens[WARM_UP:], steps.num_labels[WARM_UP:]
    cpu_s = steps.clock.cpu_s[WARM_UP:]
    return Result(name, regions, cpu_s, tokens, labels, steps.losses if isinstance(steps, OurSteps) else [])


def compare(found: Found, name: str, what: str, value: float, expected: float, tolerance: float) -> None:
    """Note a difference that is too large; no number is one."""
    if not math.isfinite(value) or not abs(value - expected) <= tolerance * abs(expected):
        found.wrong.append(f"{found.title}: {name}: {what} {value:.6f}, not {expected:.6f}")


def memory_of(name: str, config: RunConfig) -> tuple[int, int] | tuple[None, None]:
    """Resident and peak bytes of the third step; None where the system cannot tell.

    To be called in a process of its own.
    """
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return None, None
    with without_launcher():  # of the process that started this one
        place = join_ranks()
    before = settled_bytes()
    found: list[int] = []

    def look() -> None:
        found[:] = resident_bytes("VmHWM"), settled_bytes()

    if name == TRAINER:
        TrainerSteps(config).run(between=look)
    else:
        steps = OurSteps(config, STAGES[name], place)
        for _ in range(config.steps):
            steps.step()
            look()
    peak, resident = found
    return resident - before, peak - before


def settled_bytes() -> int:
    """Resident, without what the allocator keeps; a new count of the peak begins."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident_bytes("VmRSS")


def _stage_of_one_rank(precision: str) -> int:
    """Where the user gives no DeepSpeed JSON."""
    return zero_stage(default_ds_config(precision, 1))

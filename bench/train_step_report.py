"""The tables of `train_step.py`, and its targets."""

import os
import statistics
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import torch
from machine import machine
from rich.table import Table
from tables import CONSOLE, MIB, print_whole, spread
from train_step_cases import Sizes
from train_step_clock import HEAD, REGIONS
from train_step_measure import BATCH, BF16, EMA, OURS, TRAINER, Found, Result

TARGET_SIZES = (30_522, 128)
"""Vocabulary and length that the targets of a and b are meant for."""


@dataclass(frozen=True)
class Verdict:
    """A target and what was found: `ratio` is to be at most, or at least, `limit`."""

    case: str
    what: str
    limit: float
    at_least: bool
    ratio: float
    cpu_ratio: float
    """The same by CPU seconds, for a machine that others use too."""

    @property
    def met(self) -> bool:
        """Whether it is, to the two digits that are shown."""
        ratio, limit = round(self.ratio, 2), round(self.limit, 2)
        return ratio >= limit if self.at_least else ratio <= limit


def where() -> str:
    """What the benchmark runs on."""
    packages = [name for name in ("torch", "transformers", "accelerate", "deepspeed") if find_spec(name)]
    load = f"load average before: {os.getloadavg()[0]:.1f}"
    return f"{machine(*packages)}, threads: {torch.get_num_threads()}, {load}"


def judge(parts: list[Found]) -> list[Verdict]:
    """The targets of the parts that were measured at the sizes that they are meant for."""
    verdicts = []
    for found in parts:
        if found.part == "e":
            verdicts.append(time_verdict(found, BF16, 1.0))
        elif not meant_for_targets(found.sizes):
            continue
        elif found.part == "a":
            verdicts += [time_verdict(found, name, 1.02) for name in (BATCH, EMA)]
        elif found.part == "b":
            verdicts.append(speed_verdict(found))
    return verdicts


def meant_for_targets(sizes: Sizes | None) -> bool:
    """Whether the step is large enough for ratios to mean something, and the vocabulary a real one."""
    return sizes is not None and (sizes.vocab_size, sizes.length) == TARGET_SIZES


def time_verdict(found: Found, name: str, limit: float) -> Verdict:
    """At most `limit` times the time of the part's base."""
    ratio = statistics.median(ratios(found, name))
    by_cpu = statistics.median(cpu_ratios(found, name))
    return Verdict(found.title, f"time, {name} ÷ {found.base}", limit, False, ratio, by_cpu)


def speed_verdict(found: Found) -> Verdict:
    """At least twice Trainer's speed; at the shape of BERT-base, as fast as our head alone would make it."""
    assert found.sizes
    limit = with_our_head(found) if found.sizes.model == "base" else 2.0
    ratio = statistics.median(1 / ratio for ratio in ratios(found, OURS))
    by_cpu = statistics.median(1 / ratio for ratio in cpu_ratios(found, OURS))
    return Verdict(found.title, f"tokens/s, {OURS} ÷ {TRAINER}", limit, True, ratio, by_cpu)


def with_our_head(found: Found) -> float:
    """How many times as fast Trainer would be if its head and loss took the time of ours."""
    whole = statistics.median(found.results[TRAINER].seconds)
    saved = sum(median_s(found.results[TRAINER], r) - median_s(found.results[OURS], r) for r in HEAD)
    return whole / (whole - saved)


def ratios(found: Found, name: str) -> list[float]:
    """Of the times to those of the part's base, within rounds."""
    pairs = zip(found.results[name].seconds, found.results[found.base].seconds, strict=True)
    return [own / other for own, other in pairs]


def cpu_ratios(found: Found, name: str) -> list[float]:
    """The same of CPU seconds."""
    pairs = zip(found.results[name].cpu_s, found.results[found.base].cpu_s, strict=True)
    return [own / other for own, other in pairs]


def median_s(result: Result, region: str) -> float:
    """Of all timed steps."""
    return statistics.median(regions[region] for regions in result.regions)


def print_found(found: Found) -> None:
    """A part's tables."""
    if found.part == "d":
        print_memory(found)
        return
    print_speed(found)
    print_regions(found)
    if found.part == "b":
        gain = f"{with_our_head(found):.2f}"
        CONSOLE.print(f"{TRAINER} with the head and loss of {OURS}: {gain} times as many tokens/s.")
    CONSOLE.print("÷, ×: minimum, median and maximum of the ratios within a round.\n")


def print_speed(found: Found) -> None:
    """A row for each variant."""
    table = Table("", title=found.title, title_justify="left")
    losses_of = ("loss before", "after") if found.part == "b" else ("first loss", "last")
    columns = ("ms, median", f"÷ {found.base}", "CPU s", "÷", "tokens/s", "×", "masked", *losses_of)
    for column in columns:
        table.add_column(column, justify="right")
    for name, result in found.results.items():
        speeds = [tokens / s for tokens, s in zip(result.num_tokens, result.seconds, strict=True)]
        share = sum(result.num_labels) / sum(result.num_tokens)
        losses = [f"{result.losses[place]:.4f}" if result.losses else "–" for place in (0, -1)]
        table.add_row(
            name,
            f"{statistics.median(result.seconds) * 1e3:,.1f}",
            spread(ratios(found, name)),
            f"{statistics.median(result.cpu_s):,.2f}",
            spread(cpu_ratios(found, name)),
            f"{statistics.median(speeds):,.0f}",
            spread([1 / ratio for ratio in ratios(found, name)]),
            f"{share:.1%}",
            *losses,
        )
    print_whole(table)


def print_regions(found: Found) -> None:
    """A column for each variant: where its step goes."""
    table = Table("ms, median", title=f"{found.title}: where the time goes", title_justify="left")
    for name in found.results:
        table.add_column(name, justify="right")
    for region in REGIONS:
        table.add_row(
            region, *(f"{median_s(result, region) * 1e3:,.1f}" for result in found.results.values())
        )
    print_whole(table)


def print_memory(found: Found) -> None:
    """A row for each variant."""
    table = Table("", title=f"{found.title}; MiB over what the imports left", title_justify="left")
    for column in ("between steps", f"÷ {found.base}", "peak of a step", f"÷ {found.base}"):
        table.add_column(column, justify="right")
    base = found.results[found.base]
    for name, result in found.results.items():
        between = memory_cells(result.resident_bytes, base.resident_bytes)
        table.add_row(name, *between, *memory_cells(result.peak_bytes, base.peak_bytes))
    print_whole(table)
    CONSOLE.print()


def memory_cells(amount: int | None, base: int | None) -> tuple[str, str]:
    """In MiB, and over the base's."""
    return (f"{amount / MIB:,.0f}", f"{amount / base:.2f}") if amount and base else ("–", "–")


def print_targets(verdicts: list[Verdict]) -> None:
    """A row for each, if any."""
    if not verdicts:
        return
    table = Table("case", "", title="Targets", title_justify="left")
    for column in ("target", "found", "by CPU s", ""):
        table.add_column(column, justify="right")
    for item in verdicts:
        limit = f"{'≥' if item.at_least else '≤'} {item.limit:.2f}"
        numbers = (limit, f"{item.ratio:.2f}", f"{item.cpu_ratio:.2f}")
        table.add_row(item.case, item.what, *numbers, "met" if item.met else "missed")
    print_whole(table)


def as_json(
    place: str, options: dict[str, Any], parts: list[Found], verdicts: list[Verdict]
) -> dict[str, Any]:
    """Every number, and what it ran on."""
    left_out = ("plot", "json", "shards")
    return {
        "machine": place,
        "options": {name: value for name, value in options.items() if name not in left_out},
        "parts": [
            asdict(found) | {"results": [asdict(result) for result in found.results.values()]}
            for found in parts
        ],
        "targets": [asdict(item) | {"met": item.met} for item in verdicts],
    }

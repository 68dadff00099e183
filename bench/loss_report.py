"""The tables of `loss_kernel.py`, and its targets."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from loss_measure import Found, Result
from loss_peers import FALLBACK, FULL, LOW, PEERS, PLAIN, PRODUCTS
from rich.table import Table
from tables import CONSOLE, MIB, print_whole, spread

FASTEST_PEER = "fastest peer"


@dataclass(frozen=True)
class Target:
    """`variant` is to take at most `limit` times what `base` takes, where `dtype` and `dims` are these."""

    quantity: str
    variant: str
    base: str
    limit: float
    dtype: str | None = None
    dims: int | None = None


TARGET_SIZES = (1_024, 30_522)
"""The rows and the vocabulary that the targets are meant for."""
TARGETS = (
    Target("time", FULL, PRODUCTS, 1.08, "fp32"),
    Target("time", FULL, PRODUCTS, 1.35, "bf16", 256),
    Target("time", FULL, FASTEST_PEER, 1.03),
    Target("time", FALLBACK, PLAIN, 1.10),
    Target("peak", FULL, PLAIN, 0.45, "fp32", 256),
    Target("peak", FULL, PLAIN, 0.62, "fp32", 768),
    Target("peak", LOW, PLAIN, 0.30, "fp32", 256),
    Target("peak", LOW, PLAIN, 0.40, "fp32", 768),
)


@dataclass(frozen=True)
class Verdict:
    """A target in one case; no ratio and no answer where a side of it was not measured."""

    case: str
    quantity: str
    variant: str
    base: str
    limit: float
    ratio: float | None

    @property
    def met(self) -> bool | None:
        """Whether the ratio is within the limit."""
        return None if self.ratio is None else self.ratio <= self.limit


def judge(cases: list[Found]) -> list[Verdict]:
    """Every target in every case that it names."""
    return [
        verdict(found, target)
        for found in cases
        for target in TARGETS
        if target.dtype in (None, found.case.dtype) and target.dims in (None, found.case.dims)
    ]


def verdict(found: Found, target: Target) -> Verdict:
    """Times by the median of the ratios within rounds, peaks by their ratio."""
    name = fastest_peer(found) if target.base == FASTEST_PEER else target.base
    variant, base = found.results[target.variant], found.results[name]
    ratio = None
    if target.quantity == "peak" and variant.peak_bytes is not None and base.peak_bytes is not None:
        ratio = variant.peak_bytes / base.peak_bytes
    elif target.quantity == "time" and (ratios := time_ratios(variant, base)):
        ratio = statistics.median(ratios)
    shown = name if target.base == name else f"{target.base}, {name}"
    return Verdict(found.case.title, target.quantity, target.variant, shown, target.limit, ratio)


def fastest_peer(found: Found) -> str:
    """The peer with the least median; plain torch where none was timed."""
    timed = [name for name in PEERS if found.results[name].seconds]
    return min(timed, key=lambda name: statistics.median(found.results[name].seconds), default=PLAIN)


def time_ratios(variant: Result, base: Result) -> list[float]:
    """Of each round in which both were timed."""
    return [own / other for own, other in zip(variant.seconds, base.seconds, strict=False)]


def print_errors(found: Found) -> None:
    """A row for each variant that ran."""
    title = f"{found.case.title}: largest relative errors, against float64"
    table = Table("", title=title, title_justify="left")
    for column in ("losses", "∂ hidden", "∂ weight", "∂ bias", "verdict"):
        table.add_column(column, justify="right")
    for result in found.results.values():
        if result.errors:
            errors = (f"{error:.0e}" for error in result.errors.values())
            table.add_row(result.name, *errors, "WRONG" if result.wrong else "right")
    print_whole(table)


def print_speed(found: Found) -> None:
    """A row for each variant, and the reasons for what is missing."""
    table = Table(title=f"{found.case.title}: time and peak memory of a step", title_justify="left")
    table.add_column(no_wrap=True)
    times = ("ms, median", "÷ three products:\nmin median max", "÷ plain torch:\nmin median max")
    for column in (*times, "peak MiB", "÷ plain torch"):
        table.add_column(column, justify="right")
    products, plain = found.results[PRODUCTS], found.results[PLAIN]
    for result in found.results.values():
        if result.seconds:
            median = f"{statistics.median(result.seconds) * 1e3:,.1f}"
            ratios = (spread(time_ratios(result, base)) for base in (products, plain))
            table.add_row(result.name, median, *ratios, *peak_cells(result, plain))
    print_whole(table)
    for result in found.results.values():
        if result.note:
            CONSOLE.print(f"{result.name}: {result.note}")
    CONSOLE.print("÷: of the ratios within a round.\n")


def peak_cells(result: Result, plain: Result) -> tuple[str, str]:
    """In MiB, and over plain torch's."""
    if result.peak_bytes is None:
        return "–", "–"
    ratio = f"{result.peak_bytes / plain.peak_bytes:.2f}" if plain.peak_bytes else "–"
    return f"{result.peak_bytes / MIB:,.1f}", ratio


def print_targets(verdicts: list[Verdict]) -> None:
    """A row for each target in each case."""
    answers = {True: "met", False: "missed", None: "not measured"}
    table = Table("case", "of", "variant", "over", title="Targets", title_justify="left")
    for column in ("at most", "found", ""):
        table.add_column(column, justify="right")
    for item in verdicts:
        ratio = "–" if item.ratio is None else f"{item.ratio:.2f}"
        numbers = (f"{item.limit:.2f}", ratio, answers[item.met])
        table.add_row(item.case, item.quantity, item.variant, item.base, *numbers)
    print_whole(table)


def wrong_results(cases: list[Found]) -> list[str]:
    """A line for each."""
    return [
        f"{found.case.title}, {result.name}" + (f": {result.note}" if result.note else "")
        for found in cases
        for result in found.results.values()
        if result.wrong
    ]


def as_json(
    place: str, options: dict[str, Any], cases: list[Found], verdicts: list[Verdict]
) -> dict[str, Any]:
    """Every number, and what it ran on."""
    return {
        "machine": place,
        "options": {name: value for name, value in options.items() if name not in ("plot", "json")},
        "cases": [
            asdict(found.case) | {"variants": [asdict(result) for result in found.results.values()]}
            for found in cases
        ],
        "targets": [asdict(item) | {"met": item.met} for item in verdicts],
    }

"""Tables on screen, in files and in pipes."""

import statistics

from rich.console import Console
from rich.table import Table

CONSOLE = Console(highlight=False)
MIB = 2**20


def print_whole(table: Table) -> None:
    """Print a table as wide as it is: a cut figure is worse than a long line."""
    natural = Console(width=1_000).measure(table).maximum
    Console(highlight=False, width=max(CONSOLE.width, natural)).print(table)


def spread(ratios: list[float]) -> str:
    """Minimum, median, maximum."""
    if not ratios:
        return "–"
    values = (min(ratios), statistics.median(ratios), max(ratios)) if len(ratios) > 1 else ratios
    return "  ".join(ratio(value) for value in values)


def ratio(value: float) -> str:
    """To three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"

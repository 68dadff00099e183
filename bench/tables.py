"""Tables on screen, in files and in pipes."""

from rich.console import Console
from rich.table import Table

CONSOLE = Console(highlight=False)


def print_whole(table: Table) -> None:
    """Print a table as wide as it is: a cut figure is worse than a long line."""
    natural = Console(width=1_000).measure(table).maximum
    Console(highlight=False, width=max(CONSOLE.width, natural)).print(table)

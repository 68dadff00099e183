"""Facts on screen: a name, and what is to be said about it."""

from rich.table import Table
from rich.text import Text

GIB = 2**30


def facts_table(facts: dict[str, str]) -> Table:
    """A row per fact. Folded rather than cut: paths are long."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="dim", min_width=11)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    return table


def size(num_bytes: float) -> str:
    """In GiB or MiB."""
    return f"{num_bytes / GIB:,.2f} GiB" if num_bytes >= GIB / 10 else f"{num_bytes / 2**20:,.1f} MiB"

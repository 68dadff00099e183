"""Facts on screen: a name, and what is to be said about it."""

from rich.table import Table
from rich.text import Text


def facts_table(facts: dict[str, str], title: str | None = None, *, name_width: int = 11) -> Table:
    """A row per fact, below a title if there is one. Folded rather than cut: paths are long."""
    table = Table(
        box=None,
        show_header=False,
        pad_edge=title is not None,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    table.add_column(no_wrap=True, style="dim", min_width=name_width)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(name, Text(fact))
    return table

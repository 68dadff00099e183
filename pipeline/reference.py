"""The keys of a run file as a table on screen and as a page of the docs, from their definitions."""

from rich import box
from rich.table import Table

Keys = dict[str, tuple[str, str]]
REQUIRED = "must be given"


def keys_table(keys: Keys) -> Table:
    """A row per key: default and meaning."""
    table = Table("key", "default", "meaning", box=box.SIMPLE, pad_edge=False)
    for key, (default, meaning) in keys.items():
        table.add_row(key, default or REQUIRED, meaning)
    return table


def keys_page(keys: Keys) -> str:
    """The same in Markdown."""
    rows = [
        f"| `{key}` | {f'`{default}`' if default else REQUIRED} | {meaning} |"
        for key, (default, meaning) in keys.items()
    ]
    return "\n".join(
        [
            "# Keys of a run file",
            "",
            "Made by `pipeline keys --markdown` from `pipeline/config/`. Every key can be overridden on",
            "the command line: `key=value`.",
            "",
            "| key | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )

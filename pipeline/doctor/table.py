"""Outcomes as a table on screen and as plain values."""

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.doctor.finding import Outcome, State

_QUIET, _REMARK = "dim", "yellow"
_STYLES = {State.WORKS: "green", State.ABSENT: _QUIET, State.UNUSED: _QUIET}


def findings_table(outcomes: list[Outcome]) -> Table:
    """A row per check; below what was found, after an arrow, what to do about it."""
    table = Table("check", "state", "found", box=box.SIMPLE, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for outcome in outcomes:
        finding, style = outcome.finding, _style(outcome)
        # Folded rather than cut: paths are long.
        lines = [Text(finding.found, style=_QUIET if style == _QUIET else "", overflow="fold")]
        if finding.mend:
            lines.append(Text(f"→ {finding.mend}", style=style, overflow="fold"))
        table.add_row(outcome.check.name, Text(finding.state, style=style), Group(*lines))
    return table


def verdict(outcomes: list[Outcome]) -> str:
    """What it all means for pre-training on this machine, in one line."""
    failing = [outcome.check.name for outcome in outcomes if outcome.fails]
    if failing:
        return f"Pre-training does not run here before this is mended: {', '.join(failing)}."
    remarks = [outcome.check.name for outcome in outcomes if _style(outcome) == _REMARK]
    also = f" Worth a look: {', '.join(remarks)}." if remarks else ""
    return f"Everything that pre-training needs on this machine works.{also}"


def as_dict(outcomes: list[Outcome]) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "works": not any(outcome.fails for outcome in outcomes),
        "checks": [
            {
                "name": outcome.check.name,
                "state": outcome.finding.state.value,
                "needed": outcome.check.needed,
                "found": outcome.finding.found,
                "mend": outcome.finding.mend,
            }
            for outcome in outcomes
        ],
    }


def _style(outcome: Outcome) -> str:
    if outcome.fails:
        return "bold red"
    return _STYLES.get(outcome.finding.state, _REMARK)

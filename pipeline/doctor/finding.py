"""What a check is, and what it finds."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

REINSTALL = "make setup, or pip install -r requirements.lock"
"""Mends most of what is broken inside the environment."""


class State(StrEnum):
    """How something stands on this machine."""

    WORKS = "works"
    WARNING = "warning"
    """It works, but worse than it could, or than it should."""
    BROKEN = "broken"
    ABSENT = "absent"
    """Not installed, and nothing of pre-training fails for that."""
    UNUSED = "not needed"
    """It plays no part on a machine like this one."""


@dataclass(frozen=True)
class Finding:
    """The result of a check: what was found, and where that is not well, what to do about it."""

    state: State
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Check:
    """Something to try.

    Attributes:
        name: a word or two for the table.
        examine: `module:function` that tries it and returns a Finding; an exception means broken. A name, so
            that what it imports breaks only the process that runs it.
        arguments: of that function.
        mend: what to do where it raises, dies or hangs, or has no better advice itself.
        needed: whether pre-training cannot run while this is broken.
        needs_torch: whether there is no use in trying it without a working torch.
        limit_s: seconds after which it counts as hung.
    """

    name: str
    examine: str
    arguments: tuple[Any, ...] = ()
    mend: str = REINSTALL
    needed: bool = False
    needs_torch: bool = False
    limit_s: float = 30


@dataclass(frozen=True)
class Outcome:
    """A check and its finding."""

    check: Check
    finding: Finding

    @property
    def fails(self) -> bool:
        """Whether pre-training cannot run on this machine because of it."""
        return self.check.needed and self.finding.state is State.BROKEN

"""What is reported of one statement of the paper: its wording, and what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Wording:
    """A statement in words, from statements.yaml.

    Attributes:
        title: a line.
        claim: what is claimed, in formulas.
        origin: whose the claim is, and whose the constants and the proof.
        assumptions: under which it is claimed.
        verdict: whether it holds as written.
        caption: what the figure shows.
    """

    title: str
    claim: str
    origin: str
    assumptions: list[str]
    verdict: str
    caption: str


@dataclass(frozen=True)
class Statement:
    """A statement, what was found about it, and the figure that shows it.

    Attributes:
        name: of its wording and its files, such as `theorem-3.1`.
        findings: sentences with numbers.
        checks: inequalities that must hold, and whether they did.
        numbers: all that was computed, as plain values.
        figure: the picture.
    """

    name: str
    findings: list[str]
    checks: dict[str, bool]
    numbers: dict[str, Any]
    figure: Figure

    @property
    def wording(self) -> Wording:
        """The statement in words."""
        text = files("pipeline.theory").joinpath("statements.yaml").read_text(encoding="utf-8")
        return Wording(**yaml.safe_load(text)[self.name])


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Fitted d log y / d log x, of two points or more."""
    return float(np.polyfit(np.log(np.array(x)), np.log(np.array(y)), deg=1)[0])

"""The report as one HTML page, without scripts and without anything from elsewhere."""

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.study.comparison import Comparison
from pipeline.study.plots import has_few_arms
from pipeline.study.result import Scores
from pipeline.study.runs import Study
from pipeline.study.statistics import AVERAGE, WORST, Difference
from pipeline.study.tables import Table, format_difference, format_p, mark_of


@dataclass(frozen=True)
class Finding:
    """A chosen setting against a baseline as a sentence; `mark` is what becomes of the worst task."""

    text: str
    mark: str


def render_page(
    study: Study, scores: Scores, comparisons: list[Comparison], tables: list[Table], plots: dict[str, Path]
) -> str:
    """A self-contained page; all names that come from the study file are escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline.study", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    comparison = comparisons[0]
    return environment.get_template("page.html").render(
        study=study,
        config=study.config,
        comparison=comparison,
        findings=findings(comparison),
        has_few_arms=has_few_arms(comparison),
        tables=tables,
        pictures={name: _embedded(path) for name, path in plots.items()},
        masks=scores.mask_sha256,
        num_documents={split: len(scores.counts(split)) for split in scores.mask_sha256},
        num_words={split: int(scores.counts(split).sum()) for split in scores.mask_sha256},
        programs=scores.programs,
    )


def findings(comparison: Comparison) -> list[Finding]:
    """What the chosen settings do to the worst task and the average of the test split."""
    found = []
    for arm in comparison.chosen.values():
        for baseline in comparison.baselines:
            against = comparison.splits["test"].of(arm, baseline)
            if against is None:
                continue
            worst, average = against.differences[WORST], against.differences[AVERAGE]
            p = "" if against.p_holm is None else f", p {_with_sign(format_p(against.p_holm))}"
            found.append(
                Finding(
                    f"{arm} against {baseline}: the worst task is {_verdict(worst)} "
                    f"({format_difference(worst)}{p}), the average {_verdict(average)} "
                    f"({format_difference(average)}).",
                    mark_of(worst),
                )
            )
    return found


def _verdict(difference: Difference) -> str:
    if difference.low is None:
        return "not judged for want of seeds or documents"
    return mark_of(difference) or "not clearly different"


def _with_sign(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _embedded(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

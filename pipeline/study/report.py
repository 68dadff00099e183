"""Everything that a complete study writes: figures as CSV, tables, pictures, and a page with all of it."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from data_prep.durable import write_durably
from pipeline.study.comparison import Comparison, compare
from pipeline.study.csv_files import differences_csv, results_csv
from pipeline.study.page import render_page
from pipeline.study.plots import losses_over_steps, tasks_of_arms, weights_over_steps, worst_against_average
from pipeline.study.result import Scores
from pipeline.study.runs import Study
from pipeline.study.tables import study_tables

_DPI = 130


def write_report(study: Study, scores: Scores) -> None:
    """Write results.csv, differences.csv, report.md, plots/*.png and report.html into the study's folder."""
    comparisons = [compare(study, scores, "equal steps")]
    if any(run.compute == "equal compute" for run in study.runs):
        comparisons.append(compare(study, scores, "equal compute"))
    folder = study.folder
    write_durably(folder / "results.csv", results_csv(study, scores))
    write_durably(folder / "differences.csv", differences_csv(comparisons))
    tables = study_tables(study, comparisons)
    write_durably(folder / "report.md", "\n\n".join(table.to_markdown() for table in tables) + "\n")
    plots = _draw(comparisons[0], folder / "plots")
    write_durably(folder / "report.html", render_page(study, scores, comparisons, tables, plots))


_PLOTS: dict[str, Callable[[Comparison], Figure | None]] = {
    "worst_over_steps": losses_over_steps,
    "worst_against_average": worst_against_average,
    "tasks": tasks_of_arms,
    "weights": weights_over_steps,
}


def _draw(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """Draw the pictures that there is something for; where each lies, by its name."""
    folder.mkdir(exist_ok=True)
    drawn = {}
    for name, draw in _PLOTS.items():
        figure = draw(comparison)
        if figure:
            drawn[name] = folder / f"{name}.png"
            figure.savefig(drawn[name], dpi=_DPI)
    return drawn

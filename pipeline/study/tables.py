"""The tables of a report, as Markdown and for the page."""

import math
from dataclasses import dataclass

from pipeline.study.comparison import Comparison, SplitFigures
from pipeline.study.runs import Study
from pipeline.study.statistics import AVERAGE, WORST, Difference, Mean

_MINUS = "−"


@dataclass(frozen=True)
class Cell:
    """Text of a table, and what stands smaller beside it: an error, or an interval.

    `mark` says what stands out: better or worse than the baseline, or best.
    """

    text: str
    mark: str = ""
    beside: str = ""

    def to_markdown(self) -> str:
        """In one line; what stands out is bold."""
        text = " ".join(part for part in (self.text, self.beside) if part)
        return f"**{text}**" if self.mark else text


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, with a title and what must be known beside them."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    note: str = ""

    def to_markdown(self) -> str:
        """A heading, the table and its note; what stands out is bold."""
        lines = [f"## {self.title}", "", _row(self.header), _row(["---"] * len(self.header))]
        lines += [_row([cell.to_markdown() for cell in row]) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def study_tables(study: Study, comparisons: list[Comparison]) -> list[Table]:
    """Of each comparison the chosen settings and their differences; then all settings."""
    tables = []
    for comparison in comparisons:
        tables.append(_losses(study, comparison, list(comparison.chosen.values()), "test"))
        tables += [_differences(comparison, baseline) for baseline in comparison.baselines]
    tables += [_settings(study, comparison) for comparison in comparisons]
    return tables


def _losses(study: Study, comparison: Comparison, arms: list[str], split: str) -> Table:
    figures = comparison.splits[split]
    tasks = _tasks_with_words(comparison, figures)
    losses = {
        metric: {arm: figures.means[arm][metric].value for arm in arms} for metric in (WORST, AVERAGE, *tasks)
    }
    best = {metric: min(of_metric, key=lambda arm: of_metric[arm]) for metric, of_metric in losses.items()}
    rows = [
        [
            _label(comparison, arm),
            *(_mean_cell(figures.means[arm][metric], is_best=best[metric] == arm) for metric in best),
        ]
        for arm in arms
    ]
    few = [task for task in tasks if task not in figures.judged]
    note = f"Mean ± standard error over {_seeds(study)}, in nats; the lowest of each column is bold."
    if few:
        note += f" Too few words to judge, left out of worst and average: {', '.join(few)}."
    if comparison.compute == "equal compute":
        steps = ", ".join(f"{arm} {comparison.of(arm)[0].config.steps:,}" for arm in arms)
        note += f" Steps at equal counted FLOPs: {steps}."
    return Table(
        f"Loss on the {split} split, {comparison.compute}", ["", "worst task", "average", *tasks], rows, note
    )


def _differences(comparison: Comparison, baseline: str) -> Table:
    figures = comparison.splits["test"]
    others = [each for each in figures.against if each.baseline == baseline]
    others = [each for each in others if each.arm in comparison.chosen.values()]
    tasks = _tasks_with_words(comparison, figures)
    rows = []
    for each in others:
        p = "" if each.p_holm is None else format_p(each.p_holm)
        worst, average, *of_tasks = (
            _difference_cell(each.differences[metric]) for metric in (WORST, AVERAGE, *tasks)
        )
        rows.append([_label(comparison, each.arm), worst, Cell(p), average, *of_tasks])
    return Table(
        f"Test loss less that of {baseline}, {comparison.compute}",
        ["", "worst task", "p (Holm)", "average", *tasks],
        rows,
        "Below 0 is better than the baseline. Paired over seeds and held-out words, with 95 % intervals over "
        "seeds and documents. What stands out has an interval without 0. p is of the worst task, corrected "
        "over the baselines.",
    )


def _settings(study: Study, comparison: Comparison) -> Table:
    """Every arm, and why one was chosen."""
    rows = []
    for arm in comparison.arms:
        run = comparison.of(arm)[0]
        means = {split: comparison.splits[split].means[arm] for split in ("validation", "test")}
        cells = [_mean_cell(means[split][metric]) for split in means for metric in (WORST, AVERAGE)]
        is_chosen = comparison.chosen[run.method] == arm
        settings = study.config.arms[arm].overrides
        described = ", ".join(f"{key}={value}" for key, value in settings.items())
        trunk = study.config.arms[arm].trunk
        start = f"{trunk}, {run.num_trunk_steps:,}" if trunk else ""
        rows.append(
            [
                Cell(arm, "best" if is_chosen else "", described),
                Cell(run.method if run.method != arm else ""),
                Cell(start),
                Cell(f"{run.config.steps:,}"),
                *cells,
            ]
        )
    return Table(
        f"All settings, {comparison.compute}",
        [
            *("", "group", "trunk, steps", "steps"),
            *("validation worst", "validation average", "test worst", "test average"),
        ],
        rows,
        "Of each group the setting with the lowest worst-task loss on the validation split is chosen (bold), "
        "and alone stands in the other tables.",
    )


def format_difference(difference: Difference) -> str:
    """A difference with its interval."""
    return f"{_signed(difference.value)} {_interval(difference)}".rstrip()


def format_p(p: float) -> str:
    """A p-value to three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def mark_of(difference: Difference) -> str:
    """Better or worse where the interval excludes 0."""
    if not difference.is_clear:
        return ""
    return "better" if difference.value < 0 else "worse"


def _mean_cell(mean: Mean, *, is_best: bool = False) -> Cell:
    """A loss with its standard error; empty where there is none."""
    if math.isnan(mean.value):
        return Cell("")
    beside = "" if mean.error is None else f"± {mean.error:.3f}"
    return Cell(f"{mean.value:.3f}", "best" if is_best else "", beside)


def _difference_cell(difference: Difference) -> Cell:
    return Cell(_signed(difference.value), mark_of(difference), _interval(difference))


def _interval(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return ""
    return f"[{_signed(difference.low)}, {_signed(difference.high)}]"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", _MINUS)


def _label(comparison: Comparison, arm: str) -> Cell:
    """The arm, and the group that it was chosen from."""
    method = comparison.of(arm)[0].method
    return Cell(arm, beside="" if method == arm else f"of {method}")


def _tasks_with_words(comparison: Comparison, figures: SplitFigures) -> list[str]:
    """Tasks that have a loss in a split."""
    means = next(iter(figures.means.values()))
    return [task for task in comparison.task_names if not math.isnan(means[task].value)]


def _seeds(study: Study) -> str:
    number = len(study.config.seeds)
    return f"{number} seed{'s' if number > 1 else ''}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""The tables of a report, as Markdown and for the page."""

from dataclasses import dataclass, field

from pipeline.study.comparison import Comparison, SplitFigures
from pipeline.study.runs import Study
from pipeline.study.statistics import AVERAGE, WORST, Difference, Mean

_MINUS = "−"


@dataclass(frozen=True)
class Cell:
    """Text of a table; `mark` says what stands out: better or worse than the baseline, or best."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header, with a title and what must be known beside them."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    note: str = ""
    name: str = field(default="")

    def to_markdown(self) -> str:
        """A heading, the table and its note; what stands out is bold."""
        lines = [f"## {self.title}", "", _row(self.header), _row(["---"] * len(self.header))]
        lines += [_row([f"**{cell.text}**" if cell.mark else cell.text for cell in row]) for row in self.rows]
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
    tasks = [task for task in comparison.task_names if any(_is_number(figures, arm, task) for arm in arms)]
    losses = {
        metric: {arm: figures.means[arm][metric].value for arm in arms} for metric in (WORST, AVERAGE, *tasks)
    }
    best = {metric: min(of_metric, key=lambda arm: of_metric[arm]) for metric, of_metric in losses.items()}
    rows = [
        [
            Cell(_label(comparison, arm)),
            *(
                Cell(format_mean(figures.means[arm][metric]), "best" if best[metric] == arm else "")
                for metric in best
            ),
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
    tasks = [task for task in comparison.task_names if _is_number(figures, baseline, task)]
    rows = []
    for each in others:
        p = "" if each.p_holm is None else format_p(each.p_holm)
        worst, average = (
            Cell(format_difference(each.differences[metric]), mark_of(each.differences[metric]))
            for metric in (WORST, AVERAGE)
        )
        of_tasks = [Cell(_signed(each.differences[t].value), mark_of(each.differences[t])) for t in tasks]
        rows.append([Cell(_label(comparison, each.arm)), worst, Cell(p), average, *of_tasks])
    return Table(
        f"Test loss less that of {_label(comparison, baseline)}, {comparison.compute}",
        ["", "worst task", "p (Holm)", "average", *tasks],
        rows,
        "Below 0 is better than the baseline. Paired over seeds and held-out words, with 95 % intervals over "
        "seeds and documents (those of the tasks are in differences.csv); what stands out excludes 0. p is of "
        "the worst task, corrected over the baselines.",
    )


def _settings(study: Study, comparison: Comparison) -> Table:
    """Every arm, and why one was chosen."""
    rows = []
    for arm in comparison.arms:
        run = comparison.of(arm)[0]
        means = {split: comparison.splits[split].means[arm] for split in ("validation", "test")}
        cells = [Cell(format_mean(means[split][metric])) for split in means for metric in (WORST, AVERAGE)]
        is_chosen = comparison.chosen[run.method] == arm
        settings = study.config.arms[arm].overrides
        described = ", ".join(f"{key}={value}" for key, value in settings.items())
        start = (
            f"{run.trunk.folder.parent.name.rpartition('-of-')[0]}, {run.trunk.config.steps:,}"
            if run.trunk
            else ""
        )
        rows.append(
            [
                Cell(arm, "best" if is_chosen else ""),
                Cell(run.method if run.method != arm else ""),
                Cell(described),
                Cell(start),
                Cell(f"{run.config.steps:,}"),
                *cells,
            ]
        )
    return Table(
        f"All settings, {comparison.compute}",
        [
            *("arm", "group", "settings", "trunk, steps", "steps"),
            *("validation worst", "validation average", "test worst", "test average"),
        ],
        rows,
        "Of each group the setting with the lowest worst-task loss on the validation split is chosen (bold), "
        "and stands for the group in the other tables.",
    )


def format_mean(mean: Mean) -> str:
    """A loss with its standard error."""
    if mean.value != mean.value:
        return ""
    return f"{mean.value:.3f}" + ("" if mean.error is None else f" ± {mean.error:.3f}")


def format_difference(difference: Difference) -> str:
    """A difference with its interval."""
    if difference.low is None or difference.high is None:
        return _signed(difference.value)
    return f"{_signed(difference.value)} [{_signed(difference.low)}, {_signed(difference.high)}]"


def format_p(p: float) -> str:
    """A p-value to three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def mark_of(difference: Difference) -> str:
    """Better or worse where the interval excludes 0."""
    if not difference.is_clear:
        return ""
    return "better" if difference.value < 0 else "worse"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", _MINUS)


def _label(comparison: Comparison, arm: str) -> str:
    """The method's name, with the chosen setting where it has several."""
    method = comparison.of(arm)[0].method
    return arm if method == arm else f"{method}: {arm}"


def _is_number(figures: SplitFigures, arm: str, task: str) -> bool:
    return figures.means[arm][task].value == figures.means[arm][task].value


def _seeds(study: Study) -> str:
    number = len(study.config.seeds)
    return f"{number} seed{'s' if number > 1 else ''}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

"""The figures of a study as CSV, for other programs."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.study.comparison import Comparison
from pipeline.study.result import SPLITS, Scores
from pipeline.study.runs import ArmRun, Study

_RESULTS = (
    *("arm", "method", "compute", "seed", "steps", "split"),
    *("metric", "task", "loss", "accuracy", "count", "judged"),
)
_DIFFERENCES = (
    *("compute", "split", "arm", "baseline", "chosen", "metric"),
    *("difference", "low", "high", "p", "p_holm"),
)


def results_csv(study: Study, scores: Scores) -> str:
    """A row for each run, split and task, and two for the worst task and the average.

    `metric` is task, worst or average; `task` is the worst one's name where it is worst.
    """
    rows = (
        {
            "arm": run.arm,
            "method": run.method,
            "compute": run.compute,
            "seed": run.seed,
            "steps": run.config.steps,
            "split": split,
            **row,
        }
        for run in study.runs
        for split in SPLITS
        for row in _rows(run, split, scores)
    )
    return _csv(_RESULTS, rows)


def _rows(run: ArmRun, split: str, scores: Scores) -> Iterator[dict[str, Any]]:
    totals, judged = scores.totals[run.folder][split], scores.judged(split)
    counts = totals.counts.sum(axis=0)
    losses: dict[str, float] = {}
    for index, task in enumerate(scores.task_names):
        if not counts[index]:
            continue
        loss = float(totals.losses[:, index].sum() / counts[index])
        accuracy = float(totals.correct[:, index].sum() / counts[index])
        if judged[index]:
            losses[task] = loss
        yield {
            "metric": "task",
            "task": task,
            "loss": loss,
            "accuracy": accuracy,
            "count": int(counts[index]),
            "judged": int(judged[index]),
        }
    worst = max(losses, key=lambda task: losses[task])
    yield {"metric": "worst", "task": worst, "loss": losses[worst]}
    yield {"metric": "average", "loss": sum(losses.values()) / len(losses)}


def differences_csv(comparisons: Sequence[Comparison]) -> str:
    """A row for each arm, baseline, split and metric, the arm's loss less the baseline's."""
    rows = (
        {
            "compute": comparison.compute,
            "split": split,
            "arm": each.arm,
            "baseline": each.baseline,
            "chosen": int(each.arm in comparison.chosen.values()),
            "metric": metric,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p": difference.p,
            "p_holm": each.p_holm if metric == "worst" else None,
        }
        for comparison in comparisons
        for split, figures in comparison.splits.items()
        for each in figures.against
        for metric, difference in each.differences.items()
    )
    return _csv(_DIFFERENCES, rows)


def _csv(columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

"""The figures of a table: each arm over seeds, the chosen settings, and differences against the baselines."""

from dataclasses import dataclass

import numpy as np

from data_prep.errors import UserError
from pipeline.study.result import SPLITS, Scores
from pipeline.study.runs import ArmRun, Compute, Study
from pipeline.study.statistics import (
    AVERAGE,
    WORST,
    Array,
    Difference,
    Mean,
    Resampling,
    holm,
    mean_over_seeds,
    metrics,
    task_losses,
)


@dataclass(frozen=True)
class Against:
    """An arm less a baseline, by metric. `p_holm` is of the worst loss, corrected over the baselines."""

    arm: str
    baseline: str
    differences: dict[str, Difference]
    p_holm: float | None


@dataclass(frozen=True)
class SplitFigures:
    """Figures of a split.

    The M metrics are the worst loss, the average, and each task's loss; `values` [S, M] and `means` are by
    arm. Tasks that are not `judged` have too few predictions to be the worst, or to count in the average.
    """

    judged: list[str]
    values: dict[str, Array]
    means: dict[str, dict[str, Mean]]
    against: list[Against]

    def of(self, arm: str, baseline: str) -> Against | None:
        """An arm less a baseline; None of a baseline against itself."""
        return next((each for each in self.against if (each.arm, each.baseline) == (arm, baseline)), None)


@dataclass(frozen=True)
class Comparison:
    """All arms at equal steps, or at equal compute.

    `chosen` is by method the arm with the lowest worst loss on the validation split, and `baselines` are
    those of the methods that the study file names.
    """

    compute: Compute
    runs: list[ArmRun]
    task_names: list[str]
    chosen: dict[str, str]
    baselines: list[str]
    splits: dict[str, SplitFigures]

    @property
    def arms(self) -> list[str]:
        """In the order of the study file."""
        return list(dict.fromkeys(run.arm for run in self.runs))

    def of(self, arm: str) -> list[ArmRun]:
        """The runs of an arm, seed by seed."""
        return [run for run in self.runs if run.arm == arm]


def compare(study: Study, scores: Scores, compute: Compute) -> Comparison:
    """Work out the figures of a study that is complete.

    Raises:
        UserError: no task has held-out predictions enough.
    """
    runs = study.of(compute)
    validation = _Split(study, scores, runs, "validation")
    worst = {arm: means[WORST].value for arm, means in validation.means.items()}
    chosen = _choose({run.arm: run.method for run in runs}, worst)
    baselines = [chosen[name] for name in study.config.baselines if name in chosen]
    figures = {
        split: (validation if split == "validation" else _Split(study, scores, runs, split)).against(
            baselines
        )
        for split in SPLITS
    }
    return Comparison(compute, runs, scores.task_names, chosen, baselines, figures)


class _Split:
    """The metrics of all arms on a split, and the same on documents drawn again."""

    def __init__(self, study: Study, scores: Scores, runs: list[ArmRun], split: str) -> None:
        counts, judged = scores.counts(split), scores.judged(split)
        if not judged.any():
            raise UserError(
                f"{study.data}: no task has enough held-out words in the {split} split; raise "
                "evaluation.num_samples or evaluation.num_masks"
            )
        self._names = (WORST, AVERAGE, *scores.task_names)
        self._judged = [name for name, is_it in zip(scores.task_names, judged, strict=True) if is_it]
        self._resampling = Resampling(counts, judged, len(study.config.seeds))
        sums = {
            arm: np.stack([scores.totals[run.folder][split].losses for run in runs if run.arm == arm])
            for arm in dict.fromkeys(run.arm for run in runs)
        }
        self._values = {arm: metrics(task_losses(of_arm, counts), judged) for arm, of_arm in sums.items()}
        self._drawn = {arm: self._resampling.metrics(of_arm) for arm, of_arm in sums.items()}
        self.means = {
            arm: dict(zip(self._names, map(mean_over_seeds, values.T), strict=True))
            for arm, values in self._values.items()
        }

    def against(self, baselines: list[str]) -> SplitFigures:
        """With the differences of all arms against the baselines."""
        found = []
        for arm in self._values:
            others = [baseline for baseline in baselines if baseline != arm]
            differences = [self._differences(arm, baseline) for baseline in others]
            p_holm = holm([of_metrics[WORST].p for of_metrics in differences])
            found += [Against(arm, *each) for each in zip(others, differences, p_holm, strict=True)]
        return SplitFigures(self._judged, self._values, self.means, found)

    def _differences(self, arm: str, baseline: str) -> dict[str, Difference]:
        differences = self._resampling.differences(
            self._values[arm] - self._values[baseline], self._drawn[arm] - self._drawn[baseline]
        )
        return dict(zip(self._names, differences, strict=True))


def _choose(methods: dict[str, str], worst: dict[str, float]) -> dict[str, str]:
    """By method its arm with the lowest worst loss; of equal ones the first."""
    return {
        method: min((arm for arm in methods if methods[arm] == method), key=lambda arm: worst[arm])
        for method in dict.fromkeys(methods.values())
    }


def pareto_front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points for which no other one is as good in one coordinate and better in the other."""
    return [
        name
        for name, (x, y) in points.items()
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points.values())
    ]

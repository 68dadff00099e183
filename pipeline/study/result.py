"""What a finished run leaves for the comparison, and reading it back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load_file

from data_prep.durable import sha256_file
from data_prep.errors import UserError
from data_prep.schema import MANIFEST
from pipeline.evaluation import MIN_JUDGED, HeldOutTotals
from pipeline.study.identity import digest, identity_of
from pipeline.study.runs import ArmRun, Study

SPLITS = ("validation", "test")
RESULT = "result.json"
"""Complete with it, a run is never taken up again."""
SUMS = "held_out.safetensors"
"""By split and kind (`test.losses`, `test.correct`, `test.counts`) sums [C, T] per document and task."""


class ScoreSettings(BaseModel):
    """What a checkpoint is scored on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    num_samples: int
    num_masks: int


class Result(BaseModel):
    """What `SUMS` was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    """Hash of what the run was made of."""
    settings: ScoreSettings
    data_sha256: str
    """Of the manifest of the shards that it was scored on."""
    mask_sha256: dict[str, str]
    """By split, of what was masked."""
    task_names: list[str]
    step: int
    program: dict[str, str]
    """Versions of what trained and scored it, and a hash of the code."""
    sums_sha256: str


@dataclass(frozen=True)
class Scores:
    """Held-out sums of the runs of a study, scored on the same words. C differs between splits.

    `totals` is by folder of the run, then by split.
    """

    task_names: list[str]
    mask_sha256: dict[str, str]
    programs: list[dict[str, str]]
    """Different ones that made results."""
    totals: dict[Path, dict[str, HeldOutTotals]]

    def counts(self, split: str) -> NDArray[np.float64]:
        """Predictions [C, T], the same for all runs."""
        return next(iter(self.totals.values()))[split].counts

    def judged(self, split: str) -> NDArray[np.bool_]:
        """[T] tasks that have predictions enough."""
        return self.counts(split).sum(axis=0) >= MIN_JUDGED


def score_settings(study: Study) -> ScoreSettings:
    """What the runs of a study are scored on."""
    evaluation = study.config.evaluation
    return ScoreSettings(data=study.data, num_samples=evaluation.num_samples, num_masks=evaluation.num_masks)


def read_result(run: ArmRun, study: Study) -> Result | None:
    """The result of a run; None where it has none, or one that was made on other held-out words.

    Raises:
        UserError: it is the result of another run, or not one at all.
    """
    path = run.folder / RESULT
    if not path.is_file():
        return None
    try:
        result = Result.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: no result of this program; remove it, and it is made again") from error
    if result.identity != digest(identity_of(run)):
        raise UserError(
            f"{path}: of a run that was made of something else; remove {run.folder}, or set it back"
        )
    wanted = score_settings(study)
    is_same = (
        result.settings.num_samples == wanted.num_samples and result.settings.num_masks == wanted.num_masks
    )
    return result if is_same and result.data_sha256 == sha256_file(study.data / MANIFEST) else None


def read_scores(study: Study) -> Scores:
    """The results of all runs of a study that is complete.

    Raises:
        UserError: the runs were not scored on the same words, or a file was altered.
    """
    totals, results = {}, []
    for run in study.runs:
        result = read_result(run, study)
        assert result is not None
        results.append(result)
        path = run.folder / SUMS
        if sha256_file(path) != result.sums_sha256:
            raise UserError(
                f"{path}: altered since it was written; remove {RESULT} beside it, and run this again"
            )
        sums = load_file(path)
        totals[run.folder] = {
            split: HeldOutTotals(*(sums[f"{split}.{kind}"] for kind in ("losses", "correct", "counts")))
            for split in SPLITS
        }
        if result.mask_sha256 != results[0].mask_sha256:
            raise UserError(
                f"{path}: scored on other words than {study.runs[0].folder}; remove both {RESULT}"
            )
    programs = {tuple(sorted(result.program.items())): result.program for result in results}
    return Scores(results[0].task_names, results[0].mask_sha256, list(programs.values()), totals)

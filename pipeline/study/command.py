"""`pipeline study`: run what is missing, then show what came out."""

import sys
from pathlib import Path

from data_prep.errors import UserError
from pipeline.study.declaration import read_study
from pipeline.study.identity import refuse_other_runs
from pipeline.study.parts import missing_parts, missing_runs, runs_of_part
from pipeline.study.planning import plan_study
from pipeline.study.processes import Workers
from pipeline.study.result import read_scores, score_settings
from pipeline.study.runs import Study


def load_study(source: Path, folder: Path) -> Study:
    """The runs of a study file below a folder, in which they may lie already.

    Raises:
        UserError: the study file is wrong, or the folder holds other runs.
    """
    study = plan_study(read_study(source), folder, source)
    refuse_other_runs(study)
    return study


def print_missing(study: Study, num_parts: int) -> None:
    """Print the parts that have something to do, as sbatch --array takes them.

    If none has, say so on stderr, which no script reads.
    """
    parts = missing_parts(study, num_parts)
    if parts:
        print(",".join(map(str, parts)))
    else:
        print(f"pipeline study: nothing is missing in {study.folder}", file=sys.stderr)


def run_study(study: Study, num_jobs: int, part: int | None, num_parts: int) -> int:
    """Run what is missing, of one part or of all; with all runs done, write the report.

    Returns:
        Exit code: 1 where a run failed.
    """
    if part is not None and not 0 <= part < num_parts:
        raise UserError(f"--part {part}: --num-parts {num_parts} has parts 0 to {num_parts - 1}")
    runs = study.runs if part is None else runs_of_part(study, part, num_parts)
    failed = Workers(score_settings(study), num_jobs).carry_out(missing_runs(study, runs))
    if failed:
        print(
            f"pipeline study: {len(failed)} of {len(runs)} runs failed; the same command tries them again",
            file=sys.stderr,
        )
        return 1
    if part is None:
        _report(study)
    return 0


def _report(study: Study) -> None:
    from pipeline.study.report import write_report

    write_report(study, read_scores(study))
    print(f"{study.folder / 'report.html'}: {len(study.runs)} runs")

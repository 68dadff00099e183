"""Which part of a study does which runs, where several machines share it."""

from collections import defaultdict

from pipeline.study.result import read_result
from pipeline.study.runs import ArmRun, Study


def runs_of_part(study: Study, part: int, num_parts: int) -> list[ArmRun]:
    """The runs of one part. Those that share a trunk are in one part: no two make the same trunk.

    What belongs together goes, the largest first, to the part that has the fewest steps so far.
    """
    together: dict[object, list[ArmRun]] = defaultdict(list)
    for run in study.runs:
        together[run.trunk.folder if run.trunk else run.folder].append(run)
    parts: list[list[ArmRun]] = [[] for _ in range(num_parts)]
    steps = [0] * num_parts
    for runs in sorted(together.values(), key=_num_steps, reverse=True):
        least = steps.index(min(steps))
        parts[least] += runs
        steps[least] += _num_steps(runs)
    return parts[part]


def missing_parts(study: Study, num_parts: int) -> list[int]:
    """Parts that have a run without a result."""
    return [part for part in range(num_parts) if missing_runs(study, runs_of_part(study, part, num_parts))]


def missing_runs(study: Study, runs: list[ArmRun]) -> list[ArmRun]:
    """Those of `runs` that have no result."""
    return [run for run in runs if read_result(run, study) is None]


def _num_steps(runs: list[ArmRun]) -> int:
    """That are taken for runs that share a trunk, or for a single one."""
    shared = runs[0].num_trunk_steps
    return shared + sum(run.config.steps - shared for run in runs)

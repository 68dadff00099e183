"""From a study file to its runs: settings, folders, trunks, and steps at equal compute."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import UserError
from data_prep.schema import read_manifest
from pipeline.config import RunConfig
from pipeline.engine.estimator import with_estimator
from pipeline.engine.resume import keys_that_must_agree
from pipeline.paths import refuse_wrong_paths
from pipeline.references import read_references, with_losses
from pipeline.run_file import load_config
from pipeline.study.compute import FlopCounter
from pipeline.study.declaration import StudyConfig
from pipeline.study.runs import FOLDERS, ArmRun, Compute, Study, Trunk

TRUNKS = "trunks"
"""Folder of the trunks' runs below the study's."""


def plan_study(config: StudyConfig, folder: Path, source: Path) -> Study:
    """All runs of a study below `folder`; `source` is the study file, for messages.

    Raises:
        UserError: settings that no run may have, an arm that cannot go on from its trunk, or no shards.
    """
    planner = _Planner(config, folder, source)
    runs = [planner.arm_run(arm, seed) for arm in config.arms for seed in config.seeds]
    for run in runs[:: len(config.seeds)]:
        refuse_wrong_paths(run.config)
        _refuse_another_trunk(run, source)
    data = config.evaluation.data or runs[0].config.data.path
    _refuse_what_is_not_prepared({run.config.data.path for run in runs}, f"{source}: data.path")
    _refuse_what_is_not_prepared({data}, f"{source}: evaluation.data")
    if not any(arm.equal_compute for arm in config.arms.values()):
        return Study(config, folder, data, runs)
    num_steps = _steps_at_equal_compute(config, runs)
    others = {arm for arm, steps in num_steps.items() if steps != runs[0].config.steps}
    again = [arm for arm in config.arms if arm in others and config.arms[arm].equal_compute]
    runs += [planner.arm_run(arm, seed, num_steps[arm]) for arm in again for seed in config.seeds]
    return Study(config, folder, data, runs, frozenset(others.difference(again)))


def _steps_at_equal_compute(config: StudyConfig, runs: list[ArmRun]) -> dict[str, int]:
    """By arm, as many steps as cost what those of the first baseline cost."""
    counter = FlopCounter()
    reference = next(run for run in runs if run.method == config.baselines[0])
    budget = counter.of_run(reference)
    return {run.arm: counter.steps_within(budget, run) for run in runs[:: len(config.seeds)]}


def _refuse_what_is_not_prepared(folders: set[Path], place: str) -> None:
    """Raise UserError where a folder that the study names in `place` holds no shards, or altered ones."""
    for folder in folders:
        try:
            read_manifest(folder)
        except UserError as error:
            raise UserError(f"{place}: {error}, or name other shards there") from error


def _refuse_another_trunk(run: ArmRun, source: Path) -> None:
    """Raise UserError where an arm has settings that make the steps of its trunk others than its own."""
    if run.trunk is None:
        return
    then, now = run.trunk.config.to_dict(), run.config.to_dict()
    for key, before, after in keys_that_must_agree(then, now, with_objective=False):
        raise UserError(
            f"{source}: arms.{run.arm}: {key} is {after!r}, and {before!r} in its trunk; a trunk is shared "
            "by arms that differ in their objective and its tasks alone"
        )


class _Planner:
    def __init__(self, config: StudyConfig, folder: Path, source: Path) -> None:
        self._config = config
        self._folder = folder
        self._source = source
        self._num_steps = self._load("overrides", {}, {"name": config.name}).steps

    def arm_run(self, arm: str, seed: int, num_steps: int | None = None) -> ArmRun:
        """An arm with a seed; with `num_steps` at equal compute."""
        settings = self._config.arms[arm]
        compute: Compute = "equal compute" if num_steps else "equal steps"
        num_steps = num_steps or self._num_steps
        trunk = self._trunk(settings.trunk, seed, num_steps) if settings.trunk else None
        own: dict[str, Any] = {
            "name": f"seed-{seed}",
            "out_dir": str(self._folder / FOLDERS[compute] / arm),
            "seed": seed,
            "steps": num_steps,
            "schedule.total_steps": num_steps,
            "checkpoint.resume": str(trunk.checkpoint) if trunk else "auto",
        }
        config = self._load(f"arms.{arm}.overrides", settings.overrides, own)
        return ArmRun(config, arm, settings.group or arm, compute, trunk)

    def _trunk(self, name: str, seed: int, num_steps: int) -> Trunk:
        """A trunk of runs of `num_steps` steps, whose learning rate it shares."""
        settings = self._config.trunks[name]
        if settings.steps >= num_steps:
            raise UserError(
                f"{self._source}: trunks.{name}.steps is {settings.steps}, an arm has {num_steps}; leave the "
                "arms something to do"
            )
        own = {
            "name": f"seed-{seed}",
            "out_dir": str(self._folder / TRUNKS / f"{name}-of-{num_steps}"),
            "seed": seed,
            "steps": settings.steps,
            "schedule.total_steps": num_steps,
            "checkpoint.resume": "auto",
        }
        return Trunk(self._load(f"trunks.{name}.overrides", settings.overrides, own))

    def _load(self, place: str, overrides: Mapping[str, Any], own: Mapping[str, Any]) -> RunConfig:
        """The run file with the overrides of all runs, those of `place`, and the run's own."""
        merged = {**self._config.overrides, **overrides, **own}
        written = [f"{key}={json.dumps(value)}" for key, value in merged.items()]
        try:
            config = load_config(self._config.run_file, written)
        except UserError as error:
            message = str(error)
            if message.startswith("command line: "):
                message = f"{self._source}: {place}: {message.removeprefix('command line: ')}"
            raise UserError(message) from error
        return with_estimator(_with_references(config), None, world_size=1)


def _with_references(config: RunConfig) -> RunConfig:
    """With the losses that a file or a run gives `excess`: they count, not where they were read."""
    objective = config.objective
    if not isinstance(objective.reference, Path) or objective.reference_losses is not None:
        return config
    losses = read_references(objective.reference, of_shard_tasks=config.data.tasks is None)
    return with_losses(config, losses)

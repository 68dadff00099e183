"""What a study file says: the runs that are compared, and what they are compared on."""

import re
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from data_prep.errors import UserError, nearest
from pipeline.config.section import Section

_NAME = r"^\w[\w.-]*$"
Name = Annotated[str, Field(pattern=_NAME)]
Overrides = dict[str, Any]
"""Keys of a run file, such as `objective.alpha`, with their values."""

_OWNED = ("name", "out_dir", "seed", "checkpoint.resume", "schedule.total_steps")
"""Keys of a run file that the study gives to each run."""


class TrunkConfig(Section):
    """The first steps that several arms have in common, made once for each seed."""

    steps: Annotated[int, Field(gt=0)] = Field(description="Steps of the trunk; they count among an arm's.")
    overrides: Overrides = Field({}, description="Keys of the run file that are the trunk's own.")


class ArmConfig(Section):
    """A way to train that is compared with the others."""

    group: Name | None = Field(
        None,
        description="Arms of a group are settings of one method; the validation split chooses one of them.",
    )
    trunk: str | None = Field(None, description="Trunk that the arm goes on from; step 0 if not given.")
    overrides: Overrides = Field({}, description="Keys of the run file that are the arm's own.")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {},
        description="Key of the run file → values. The arm becomes a group, with an arm for each "
        "combination: dwa with optimizer.lr: [0.001, 0.002] becomes dwa_0.001 and dwa_0.002.",
    )
    equal_compute: bool = Field(
        False,
        description="Where its steps do not cost what those of the first baseline do, run it once more with "
        "as many steps as cost the same in all.",
    )

    def expanded(self, name: str) -> dict[str, "ArmConfig"]:
        """The arms that `grid` makes of the arm, by their names; only itself if it has none."""
        if not self.grid:
            return {name: self}
        arms = {}
        for values in product(*self.grid.values()):
            title = "_".join([name, *map(str, values)])
            if not re.match(_NAME, title):
                raise ValueError(
                    f'{name}.grid: "{title}" is no name of an arm; write it as an arm of its own'
                )
            overrides = self.overrides | dict(zip(self.grid, values, strict=True))
            changes = {"group": self.group or name, "overrides": overrides, "grid": {}}
            arms[title] = self.model_copy(update=changes)
        return arms


class EvaluationConfig(Section):
    """What all final checkpoints are scored on: the same words of the validation and the test split."""

    data: Path | None = Field(
        None,
        description="Shards whose held-out splits are taken; the data.path of the first arm if not given.",
    )
    num_samples: Annotated[int, Field(ge=0)] = Field(
        0, description="Sequences of each split, spread evenly over it; 0 is all."
    )
    num_masks: Annotated[int, Field(gt=0)] = Field(
        1,
        description="Times that each sequence is masked for each task, no word twice; more judge rare tasks "
        "better.",
    )


class StudyConfig(Section):
    """A study file."""

    name: Name = Field(description="Title of the report.")
    run_file: Path = Field(
        description="Run file that all runs start from; its path starts at the study file."
    )
    overrides: Overrides = Field({}, description="Keys of the run file that differ in all runs.")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        description="Each arm is run with each of them; arms are compared seed by seed."
    )
    baselines: Annotated[list[str], Field(min_length=1)] = Field(
        description="Arms, or groups, that all others are compared with."
    )
    trunks: dict[Name, TrunkConfig] = Field({}, description="Name to trunk.")
    arms: Annotated[dict[Name, ArmConfig], Field(min_length=1)] = Field(description="Name to arm.")
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("seeds", "baselines")
    @classmethod
    def _names_nothing_twice(cls, values: list[Any]) -> list[Any]:
        twice = [value for value, number in Counter(values).items() if number > 1]
        if twice:
            raise ValueError(f"{twice[0]} stands there twice")
        return values

    @field_validator("arms")
    @classmethod
    def _expands_grids(cls, arms: dict[str, ArmConfig]) -> dict[str, ArmConfig]:
        expanded: dict[str, ArmConfig] = {}
        for name, arm in arms.items():
            for title, each in arm.expanded(name).items():
                if title in expanded:
                    raise ValueError(f"two arms are called {title}; rename one")
                expanded[title] = each
        return expanded

    @model_validator(mode="after")
    def _names_what_there_is(self) -> "StudyConfig":
        methods = {arm.group or name for name, arm in self.arms.items()}
        for name in self.baselines:
            if name not in methods:
                raise ValueError(f'baselines: no arm or group "{name}"{nearest(name, methods)}')
        for name, arm in self.arms.items():
            if arm.trunk is not None and arm.trunk not in self.trunks:
                raise ValueError(
                    f'arms.{name}.trunk: no trunk "{arm.trunk}"{nearest(arm.trunk, self.trunks)}'
                )
            if arm.group in self.arms and self.arms[arm.group].group != arm.group:
                raise ValueError(
                    f'arms.{name}.group: "{arm.group}" is an arm outside of it; take another name'
                )
        return self

    @model_validator(mode="after")
    def _overrides_nothing_that_a_study_gives(self) -> "StudyConfig":
        places: dict[str, tuple[Overrides, tuple[str, ...]]] = {"overrides": (self.overrides, _OWNED)}
        for section, members in (("trunks", self.trunks), ("arms", self.arms)):
            for name, member in members.items():
                places[f"{section}.{name}.overrides"] = (member.overrides, (*_OWNED, "steps"))
        for place, (overrides, owned) in places.items():
            for key in owned:
                if key in overrides:
                    raise ValueError(f"{place}: {key} is not for a study to override{_INSTEAD.get(key, '')}")
        return self


_INSTEAD = {
    "steps": ": all arms take as many; set it in the study's overrides",
    "seed": "; name it in seeds",
    "checkpoint.resume": "; name a trunk",
}


def read_study(path: Path) -> StudyConfig:
    """Read a study file; paths in it start at its folder.

    Raises:
        UserError: a missing or malformed file, an unknown key (with the nearest known one), a bad value.
    """
    if not path.is_file():
        others = [str(other) for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such study file{nearest(str(path), others)}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a study file is a map from keys to values")
    try:
        study = StudyConfig.model_validate(content)
    except ValidationError as error:
        raise UserError(_explain(error, path)) from error
    return study.model_copy(update={"run_file": path.parent / study.run_file})


def _explain(error: ValidationError, path: Path) -> str:
    """The first mistake as one line."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "extra_forbidden":
        return f'{path}: unknown key "{key}"{nearest(str(first["loc"][-1]), _keys_beside(first["loc"]))}'
    if first["type"] == "missing":
        return f'{path}: "{key}" is missing'
    message = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(first["input"], dict) else f", not {first['input']!r}"
    return f"{path}: {f'{key}: ' if key else ''}{message[0].lower()}{message[1:]}{value}"


def _keys_beside(place: tuple[int | str, ...]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    sections: dict[int | str, type[BaseModel]] = {
        "trunks": TrunkConfig,
        "arms": ArmConfig,
        "evaluation": EvaluationConfig,
    }
    return list((StudyConfig if len(place) == 1 else sections[place[0]]).model_fields)

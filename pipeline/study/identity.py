"""What a run is made of, written down beside it: a study never takes a run for another one."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data_prep.durable import sha256_file, write_durably
from data_prep.errors import UserError
from data_prep.schema import MANIFEST
from pipeline.config import RunConfig
from pipeline.engine.preflight import flat
from pipeline.study.runs import ArmRun, Run, Study

_IMMATERIAL = (
    "name",
    "out_dir",
    "data.path",
    "data.tasks",
    "data.tasks_sha256",
    "data.num_workers",
    "timeout_s",
    "validate",
    "checkpoint",
    "log",
    "profile",
)
"""Keys and sections that change no parameter; of data and tasks their hash counts, not their place.

So it is with the losses of a reference.
"""


def refuse_other_runs(study: Study) -> None:
    """Raise UserError where a folder of a study holds a run that was made of something else."""
    for run in [*study.trunks, *study.runs]:
        if run.identity.is_file():
            _compare(json.loads(run.identity.read_text()), identity_of(run), run.folder)
        elif run.folder.exists():
            raise UserError(f"{run.folder}: no run of this study; remove it, or give --out another folder")


def write_identity(run: Run) -> None:
    """Write down what a run is made of, before it starts."""
    run.identity.parent.mkdir(parents=True, exist_ok=True)
    write_durably(run.identity, json.dumps(identity_of(run), indent=1) + "\n")


def identity_of(run: Run) -> dict[str, Any]:
    """All that decides the parameters of a run: its settings, data and tasks, and those of its trunk."""
    data = run.config.data
    identity = _settings(run.config) | {"data": _hash_of_shards(data.path)}
    if data.tasks is not None:
        identity["data.tasks"] = sha256_file(data.tasks)
    if isinstance(run, ArmRun) and run.trunk:
        identity |= {f"trunk.{key}": value for key, value in identity_of(run.trunk).items()}
    return identity


def digest(identity: dict[str, Any]) -> str:
    """SHA-256 of what a run is made of. A key that is not set counts as little as one that is not there."""
    given = {key: value for key, value in identity.items() if value is not None}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _settings(config: RunConfig) -> dict[str, Any]:
    immaterial = {*_IMMATERIAL, *(["objective.reference"] if config.objective.reference_losses else [])}
    return {
        key: value
        for key, value in flat(config.to_dict()).items()
        if key not in immaterial and key.split(".")[0] not in immaterial
    }


def _hash_of_shards(folder: Path) -> str:
    return sha256_file(folder / MANIFEST)


def _compare(then: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    for key in sorted(then.keys() | now.keys()):
        if then.get(key) != now.get(key):
            raise UserError(
                f"{folder}: {key} was {then.get(key)!r} there and is {now.get(key)!r} now; set it back, "
                f"give --out another folder, or remove {folder}*"
            )

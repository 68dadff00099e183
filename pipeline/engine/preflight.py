"""Before the first step: all ranks run the same code, on the same settings, with the same data.

Where they differ, nothing may show: each rank draws its own micro-batches by its own rules, and the gradients
are averaged all the same.
"""

import hashlib
import json
import platform
import socket
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import as_file, files
from typing import Any

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.engine.launch import Place
from pipeline.engine.ranks import gather

Facts = dict[str, dict[str, str]]
"""Section → key → value."""

_WHAT_TO_DO = {
    "version": "install the same one on all hosts",
    "code": "install or check out the same on all hosts",
    "configuration": "start all ranks with the same run file and overrides",
    "DeepSpeed JSON": "give all ranks the same file",
    "data": "give all ranks the same",
}
_DISTRIBUTIONS = (
    "task-robust-pretraining",
    "deepspeed",
    "numpy",
    "pyarrow",
    "safetensors",
    "torch",
    "transformers",
    "triton",
)
_PACKAGES = ("data_prep", "pipeline", "task_kernels")
_CODE = {".py", ".cpp", ".so"}
_ABSENT = "absent"
_NUM_NAMED = 4
"""Ranks, hosts and values that a message names; of the others it tells the number."""
_VALUE_WIDTH = 64
"""Characters; as many as a SHA-256 has."""


def facts_of(config: RunConfig, ds_settings: dict[str, Any], model_recipe: dict[str, Any]) -> Facts:
    """What this rank trains: its installation, its code, and every setting.

    `ds_settings` is the checked DeepSpeed JSON, `model_recipe` what the data add to the configuration.
    """
    return {  # causes before effects: other code may resolve the same run file to other settings
        "version": _versions(),
        "code": _code(),
        "configuration": _texts(config.to_dict()),
        "DeepSpeed JSON": _texts(ds_settings),
        "data": _texts(model_recipe),
    }


def installed() -> dict[str, str]:
    """Versions of what computes, and one hash over all code."""
    code = hashlib.sha256(json.dumps(_code(), sort_keys=True).encode()).hexdigest()
    return _versions() | {"code": code[:12]}


def check_agreement(facts: Facts, place: Place) -> None:
    """Compare the facts of all ranks. Collective: every rank calls it, and every rank raises or none does.

    Raises:
        UserError: the same line on all ranks: the first fact that differs, where, and its values.
    """
    if place.world_size == 1:
        return
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if len(set(gather(digest, place))) > 1:  # only then is it worth sending everything to everyone
        ranks = gather((socket.gethostname(), facts), place)
        raise UserError(disagreement([host for host, _ in ranks], [facts for _, facts in ranks]))


def disagreement(hosts: list[str], facts: list[Facts]) -> str:
    """One line about the facts of ranks that do not agree, however many; `hosts` and `facts` are by rank."""
    differences = [
        (section, key, values)
        for section in facts[0]
        for key in dict.fromkeys(key for of_rank in facts for key in of_rank[section])
        if len(set(values := [of_rank[section].get(key, _ABSENT) for of_rank in facts])) > 1
    ]
    section, key, values = differences[0]
    in_all = f" ({len(differences)} differences in all)" if len(differences) > 1 else ""
    return f"{section}: {key} is {_who_has_what(values, hosts)}{in_all}; {_WHAT_TO_DO[section]}"


def flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys with their values."""
    values: dict[str, Any] = {}
    for key, value in section.items():
        values.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return values


def _texts(settings: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in flat(settings).items()}


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), **{name: _version(name) for name in _DISTRIBUTIONS}}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # a checkout on the path
        return _ABSENT


def _code() -> dict[str, str]:
    """Hash per file that is run or built: a checkout changes without its version."""
    hashes = {}
    for package in _PACKAGES:
        with as_file(files(package)) as folder:
            for path in sorted(path for path in folder.rglob("*") if path.suffix in _CODE):
                name = f"{package}/{path.relative_to(folder).as_posix()}"
                hashes[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return hashes


def _who_has_what(values: list[str], hosts: list[str]) -> str:
    """The value of the most ranks first; of as many, that of the lowest rank."""
    usual, *others = [
        f"{_cut(value)} on {_holders(value, values, hosts)}" for value, _ in Counter(values).most_common()
    ]
    return f"{usual} but {_few(others, ' values')}"


def _holders(value: str, values: list[str], hosts: list[str]) -> str:
    ranks = [rank for rank, its_value in enumerate(values) if its_value == value]
    on = list(dict.fromkeys(hosts[rank] for rank in ranks))
    return f"rank{'s' if len(ranks) > 1 else ''} {_few(ranks)} ({_few(on, ' hosts')})"


def _few(names: Sequence[object], of_what: str = "") -> str:
    named = ", ".join(map(str, names[:_NUM_NAMED]))
    return named + (f" and {len(names) - _NUM_NAMED} more{of_what}" if len(names) > _NUM_NAMED else "")


def _cut(value: str) -> str:
    half = _VALUE_WIDTH // 2
    return value if len(value) <= _VALUE_WIDTH else f"{value[:half]}…{value[-half:]}"

"""Python and its packages: what the project asks for, and what it was tested with."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from pipeline.doctor.finding import REINSTALL, Finding, State

_PROJECT = "task-robust-pretraining"
_LOCK = Path(__file__).parents[2] / "requirements.lock"
_SHOWN = 3


def examine(lock: Path = _LOCK) -> Finding:
    """Compare what is installed with what the project requires, and with its lock file if that is here."""
    python = f"Python {platform.python_version()} in {sys.prefix}"
    try:
        required = requires(_PROJECT) or []
    except PackageNotFoundError:
        return Finding(State.WARNING, f"{python}; the project itself is not installed", "pip install -e .")
    if unmet := _unmet([Requirement(line) for line in required]):
        return Finding(State.BROKEN, f"{python}: {_first(unmet)}")
    locked = dict(line.split("==") for line in lock.read_text().split()) if lock.is_file() else {}
    if others := _others(locked):
        return Finding(
            State.WARNING,
            f"{python}; not the versions that the project is tested with: {_first(others)}",
            REINSTALL,
        )
    return Finding(State.WORKS, f"{python}, with the versions of requirements.lock" if locked else python)


def _unmet(required: list[Requirement]) -> list[str]:
    """What the project cannot do without, and is missing or of another version."""
    unmet = []
    for requirement in required:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _version(requirement.name)
        if installed is None:
            unmet.append(f"{requirement.name} is not installed")
        elif not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(f"{requirement.name} is {installed}, not {requirement.specifier}")
    return unmet


def _others(locked: dict[str, str]) -> list[str]:
    """Installed packages of another version than the locked one; local parts such as +cpu do not count."""
    others = []
    for name, wanted in locked.items():
        installed = _version(name)
        if installed is not None and installed.partition("+")[0] != wanted:
            others.append(f"{name} is {installed}, not {wanted}")
    return others


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _first(problems: list[str]) -> str:
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return ", ".join(problems[:_SHOWN]) + more

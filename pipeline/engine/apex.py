"""Which package `apex` is: NVIDIA's optimizers, or another one, which must not be imported in its place.

`pip install apex` brings a toolkit for the web framework Pyramid, written for Python 2. DeepSpeed imports
whatever has the name, and fails where that raises anything but an ImportError.
"""

import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Apex:
    """The package that `import apex` would bring; nothing of it has been imported.

    Attributes:
        place: its folder, or its file.
        is_nvidias: whether it is the one with FusedAdam.
        has_kernels: whether NVIDIA's was built with its CUDA kernels.
        summary: what an installed distribution called `apex` says about itself; None where none is installed.
    """

    place: Path
    is_nvidias: bool
    has_kernels: bool
    summary: str | None


def find_apex() -> Apex | None:
    """Look for `apex` by its files alone, since importing a stranger may run or raise anything."""
    spec = find_spec("apex")
    if spec is None:
        return None
    place = _place(spec)
    return Apex(
        place=place,
        is_nvidias=(place / "optimizers" / "fused_adam.py").is_file(),
        has_kernels=find_spec("amp_C") is not None,
        summary=_summary(),
    )


def hide_other_apex() -> None:
    """Make `import apex` say that there is none, unless it is NVIDIA's."""
    apex = find_apex()
    if apex and not apex.is_nvidias:
        sys.modules["apex"] = None  # type: ignore[assignment] # how Python marks a module as not to be found


def _place(spec: ModuleSpec) -> Path:
    locations = list(spec.submodule_search_locations or [])
    return Path(locations[0] if locations else spec.origin or "apex")


def _summary() -> str | None:
    try:
        return " ".join(metadata("apex").get_all("Summary", []))
    except PackageNotFoundError:
        return None

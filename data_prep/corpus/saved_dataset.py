"""Folders that `datasets` wrote with `save_to_disk`: which files to read, in which order."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import UserError

_STATE = "state.json"
_SPLITS = "dataset_dict.json"
_TRAIN = "train"


@dataclass(frozen=True)
class SavedFile:
    """A file of a saved data set; `note` says why it is not read."""

    path: Path
    note: str | None = None


def is_saved_dataset(folder: Path) -> bool:
    """Whether `datasets` saved a data set, or several splits of one, in this folder."""
    if (folder / _SPLITS).is_file():
        return True
    try:
        return "_data_files" in json.loads((folder / _STATE).read_bytes())
    except (OSError, ValueError, TypeError):  # none, or a state file of another program
        return False


def saved_files(folder: Path) -> Iterator[SavedFile]:
    """The Arrow files in their order; of several splits `train` alone is read, if there is one.

    Raises:
        UserError: a state file that is damaged, or names a file that is not there.
    """
    if not (folder / _SPLITS).is_file():
        yield from (SavedFile(path) for path in _data_files(folder))
        return
    splits = _listed(folder / _SPLITS, "splits")
    for split in splits:
        passed_over = _TRAIN in splits and split != _TRAIN
        for path in _data_files(folder / split):
            note = f"{path.as_posix()}: not of split {_TRAIN}; to read it, name its folder"
            yield SavedFile(path, note if passed_over else None)


def _data_files(folder: Path) -> list[Path]:
    paths = [folder / name for name in _listed(folder / _STATE, "_data_files")]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file, but {folder / _STATE} lists it; save the data set again")
    return paths


def _listed(path: Path, key: str) -> list[str]:
    try:
        listed = json.loads(path.read_bytes())[key]
        return [str(item["filename"] if isinstance(item, dict) else item) for item in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a state file of a saved data set ({error}); save it again") from error

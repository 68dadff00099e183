"""What lies where in the folder of a run."""

from pathlib import Path

from data_prep.errors import UserError

CONFIG = "config.yaml"
DS_CONFIG = "ds_config.json"
SLURM = "slurm"
"""Folder for what the run's jobs say and did, which is there before the run is."""
MANIFEST = "manifest.json"
"""Of a checkpoint, which is complete with it."""


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix("step-"))


def is_checkpoint_of(run_dir: Path, checkpoint: Path) -> bool:
    """Whether a checkpoint is a run's own, and not one of another run that it begins at."""
    return checkpoint.resolve().parent.parent == run_dir.resolve()


def complete_checkpoints(run_dir: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    folders = (run_dir / "checkpoints").glob("step-????????")
    return sorted(folder for folder in folders if (folder / MANIFEST).is_file())


def find_checkpoint(path: Path) -> Path:
    """A checkpoint from its own path, or the newest of a run's folder.

    Raises:
        UserError: there is none.
    """
    if (path / MANIFEST).is_file():
        return path
    found = complete_checkpoints(path)
    if not found:
        raise UserError(f"{path}: neither a checkpoint (step-NNNNNNNN) nor a run that has one")
    return found[-1]

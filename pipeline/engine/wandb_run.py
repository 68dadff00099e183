"""A run's figures at Weights & Biases, for those who ask for it."""

import importlib.util
import uuid
from pathlib import Path
from typing import Any

from data_prep.durable import write_durably
from data_prep.errors import UserError, one_line
from pipeline.config import RunConfig

_RUN_ID = "wandb-run-id"
_NO_FIGURES = ("step", "time", "began")
"""Of a line of metrics; W&B has a clock of its own."""


def check_wandb_installed(config: RunConfig) -> None:
    """Raise UserError where W&B is asked for and cannot be imported."""
    if config.log.wandb and importlib.util.find_spec("wandb") is None:
        raise UserError("log.wandb: W&B is not installed; pip install wandb, or set log.wandb=false")


def forget_wandb_run(run_dir: Path) -> None:
    """What starts from step 0 is another run at W&B."""
    (run_dir / _RUN_ID).unlink(missing_ok=True)


class WandbRun:
    """The run at W&B. One that goes on here goes on there; steps that it takes again are sent once.

    Raises:
        UserError: W&B refuses, for example without a key.
    """

    def __init__(self, config: RunConfig) -> None:
        import wandb

        id_file = config.run_dir / _RUN_ID
        if not id_file.is_file():
            write_durably(id_file, uuid.uuid4().hex)
        try:
            self._run = wandb.init(
                project=config.log.wandb_project,
                name=config.name,
                id=id_file.read_text(),
                resume="allow",
                dir=str(config.run_dir),
                config=config.to_dict(),
            )
        except wandb.Error as error:
            raise UserError(f"log.wandb: {one_line(error)}; mend that, or set log.wandb=false") from error

    def log(self, prefix: str, record: dict[str, Any]) -> None:
        """Send a line of metrics: numbers as PREFIX/NAME, maps as PREFIX/NAME/TASK."""
        figures = {
            key: value for key, value in record.items() if key not in _NO_FIGURES and value is not None
        }
        flat: dict[str, Any] = {}
        for name, value in figures.items():
            if isinstance(value, dict):
                flat |= {f"{prefix}/{name}/{task}": figure for task, figure in value.items()}
            else:
                flat[f"{prefix}/{name}"] = value
        self._run.log(flat, step=record["step"])

    def close(self) -> None:
        """Send what waits."""
        self._run.finish()

"""Plans of run files, as the command makes them."""

from pathlib import Path

import pytest

from pipeline.engine.ds_config import given_ds_config
from pipeline.plan.run_plan import plan_run
from pipeline.plan.text_case import planned_case
from pipeline.run_file import load_config

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture
def plan_of():
    """A function that plans a shipped run file: its name, overrides, ranks, device, speed, length."""

    def make(name, overrides=(), world_size=1, device="gpu", speed=None, sequence_length=None):
        config = load_config(CONFIGS / f"{name}.yaml", ["data.path=none", *overrides])
        case = planned_case(config, sequence_length)
        return plan_run(config, given_ds_config(config, world_size), case, world_size, device, speed)

    return make

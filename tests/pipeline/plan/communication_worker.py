"""Run under torchrun: `communication_worker.py CASES` writes the collectives of a step of every run in CASES.

CASES is a JSON file, a map from a name to the overrides of `configs/tiny.yaml`; the messages of a case go to
`NAME.json` beside it.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.assembly import build_model, text_data, text_recipe
from pipeline.engine.ds_config import ds_settings_of
from pipeline.engine.launch import join_ranks
from pipeline.engine.training import Job, TrainingRun
from pipeline.run_file import load_config

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"
WARM_UP_STEPS = 2
"""In which stage 3 learns in which order parameters are used."""


class Collectives(TorchDispatchMode):
    """Notes what torch hands to gloo: whoever calls, by whichever function, it comes through here."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            self.messages.append(message(func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))


def message(name, args):
    """Operation, bytes of the whole buffer, and ranks of a call of c10d."""
    num_bytes = [leaf.nbytes for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)]
    groups = [
        arg for arg in args if isinstance(arg, torch.ScriptObject) and "ProcessGroup" in str(arg._type())
    ]
    return [name, max(num_bytes, default=0), dist.ProcessGroup.unbox(groups[0]).size()]


def messages_of_step(overrides, place):
    config = load_config(TINY, overrides)
    data = text_data(config)
    recipe = text_recipe(config, data.shards)
    settings = ds_settings_of(config, place.world_size)
    run = TrainingRun(Job(config, settings, data, build_model(config, recipe), {}, place))
    for step in range(WARM_UP_STEPS):
        run.runner.run(step)
    with Collectives() as collectives:
        run.runner.run(WARM_UP_STEPS)
    return collectives.messages


def main():
    torch.set_num_threads(1)
    place = join_ranks()
    cases = Path(sys.argv[1])
    for name, overrides in json.loads(cases.read_text()).items():
        messages = messages_of_step(overrides, place)
        if place.rank == 0:
            (cases.parent / f"{name}.json").write_text(json.dumps(messages))


main()

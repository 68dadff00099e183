"""`communication_worker.py CASES` writes the collectives of a step of every run in CASES, by rank.

CASES is a JSON file, a map from a name to `world_size` and to `overrides` of `configs/tiny.yaml`. The
messages of a case go to `NAME.json` beside it, a list for each rank. Ranks are forked, so that torch and
DeepSpeed are imported once for all of them.
"""

import gc
import json
import os
import socket
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.engine import workarounds

workarounds.before_import()
import deepspeed  # noqa: E402, F401  # before the ranks are forked

from pipeline.assembly import build_model, text_data, text_recipe  # noqa: E402
from pipeline.engine.ds_config import ds_settings_of  # noqa: E402
from pipeline.engine.job import Job  # noqa: E402
from pipeline.engine.launch import join_ranks  # noqa: E402
from pipeline.engine.ranks import gather  # noqa: E402
from pipeline.engine.training import TrainingRun  # noqa: E402
from pipeline.run_file import load_config  # noqa: E402

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


def measure(rank, world_size, port, cases, folder):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    torch.set_num_threads(1)
    place = join_ranks()
    for name, overrides in cases.items():
        messages = gather(messages_of_step(overrides, place), place)
        if rank == 0:
            (folder / f"{name}.json").write_text(json.dumps(messages))
    dist.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    path = Path(sys.argv[1])
    cases = json.loads(path.read_text())
    gc.freeze()  # DeepSpeed collects garbage per engine at stage 3: not through all that was imported
    for world_size in sorted({case["world_size"] for case in cases.values()}):
        of_size = {name: c["overrides"] for name, c in cases.items() if c["world_size"] == world_size}
        ranks = (world_size, free_port(), of_size, path.parent)
        start_processes(measure, ranks, nprocs=world_size, start_method="fork")


if __name__ == "__main__":
    main()

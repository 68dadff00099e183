"""`flops_worker.py CASES OUT` takes steps of every run in CASES, and counts the operations of each.

CASES is a JSON file, a map from a name to overrides of `configs/tiny.yaml`. OUT gets a map from a name to
a list with the FLOPs and the number of masked pieces of each step.
"""

import json
import sys
from pathlib import Path

from pipeline.engine import workarounds

workarounds.before_import()

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from pipeline.assembly import build_model, text_data, text_recipe  # noqa: E402
from pipeline.engine.ds_config import ds_settings_of  # noqa: E402
from pipeline.engine.job import Job  # noqa: E402
from pipeline.engine.launch import join_ranks  # noqa: E402
from pipeline.engine.training import TrainingRun  # noqa: E402
from pipeline.run_file import load_config  # noqa: E402

TINY = Path(__file__).parents[3] / "configs" / "tiny.yaml"


def counted_steps(overrides, place):
    config = load_config(TINY, overrides)
    data = text_data(config)
    model = build_model(config, text_recipe(config, data.shards))
    run = TrainingRun(Job(config, ds_settings_of(config, 1), data, model, {}, place))
    steps = []
    for step in range(config.steps):
        with FlopCounterMode(display=False) as flops, sdpa_kernel(SDPBackend.MATH):
            result = run.runner.run(step)
        steps.append([flops.get_total_flops(), int(result.counts.sum())])
    return steps


def main():
    cases, out = map(Path, sys.argv[1:])
    place = join_ranks()
    counted = {name: counted_steps(keys, place) for name, keys in json.loads(cases.read_text()).items()}
    out.write_text(json.dumps(counted))


if __name__ == "__main__":
    main()

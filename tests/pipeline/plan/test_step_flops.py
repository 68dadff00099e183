"""The operations of a run that are planned are those of its steps, with what an objective adds to them."""

import json
from pathlib import Path

import pytest

from pipeline.plan.text_case import planned_case
from pipeline.run_file import load_config
from pipeline.study.compute import FlopCounter

from .conftest import CONFIGS

WORKER = Path(__file__).with_name("flops_worker.py")
TWO_PASS = ["objective.name=minimax", "objective.estimator=two_pass"]
CASES = {
    "average": ["objective.name=average"],
    "exact": TWO_PASS,
    "late": [*TWO_PASS, "objective.start_step=3", "objective.start_name=average"],
    "gradients": ["objective.name=gradnorm", "objective.estimator=ema"],
    "late gradients": ["objective.name=gradnorm", "objective.estimator=ema", "objective.start_step=3"],
}
NUM_STEPS = 5


@pytest.fixture(scope="module")
def overrides(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flops")
    alike = [
        *(f"data.path={shards}", f"out_dir={folder}", "data.num_workers=0", "validate.every=0"),
        *("model.hidden_size=32", "batch.global_size=12", "batch.micro_size=4", "objective.nsp=off"),
        f"steps={NUM_STEPS}",
    ]
    return {name: [*alike, *keys] for name, keys in CASES.items()}


@pytest.fixture(scope="module")
def counted(overrides, tmp_path_factory, ready_python):
    """By case the FLOPs and the number of masked pieces of each step."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "cases.json").write_text(json.dumps(overrides))
    done = ready_python.run(WORKER, folder / "cases.json", folder / "counted.json")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "counted.json").read_text())


@pytest.fixture
def planned(overrides):
    """By case the FLOPs of the steps between two, and the masked pieces of a step."""

    def plan(name):
        config = load_config(CONFIGS / "tiny.yaml", overrides[name])
        num_masked = config.batch.num_micro_batches * planned_case(config, None).num_masked
        return FlopCounter().of_steps(config).between, num_masked

    return plan


def extra(steps, usual):
    return [flops - other for (flops, _), (other, _) in zip(steps, usual, strict=True)]


@pytest.mark.parametrize("name, first", [("exact", 0), ("late", 3)])
def test_exact_weights_cost_a_forward_pass_more_from_the_step_on_that_has_them(name, first, counted, planned):
    found = extra(counted[name], counted["average"])
    assert found[:first] == [0] * first
    (of_run, _), (of_average, _) = planned(name), planned("average")
    for step in range(NUM_STEPS):
        share = (of_run(step, step + 1) - of_average(step, step + 1)) / of_average(step, step + 1)
        assert found[step] / counted["average"][step][0] == pytest.approx(share, abs=0.001)
        assert (share > 0.3) == (step >= first)
    total = sum(flops for flops, _ in counted[name]) / sum(flops for flops, _ in counted["average"])
    assert of_run(0, NUM_STEPS) / of_average(0, NUM_STEPS) == pytest.approx(total, abs=0.001)


@pytest.mark.parametrize("name", ["gradients", "late gradients"])
def test_gradients_of_tasks_cost_products_for_each_masked_piece(name, counted, planned):
    (of_run, num_masked), (of_average, _) = planned(name), planned("average")
    for step, (found, (_, num_found)) in enumerate(
        zip(extra(counted[name], counted["average"]), counted[name], strict=True)
    ):
        expected = of_run(step, step + 1) - of_average(step, step + 1)
        assert found > 0
        assert found / num_found == expected / num_masked

"""A checkpoint of any ranks and ZeRO stage goes on with any others, as if the run had never stopped."""

import itertools
import json

import pytest

from .saved import ALL_STEPS, FIRST_STEPS, checkpoint, largest_difference, moments, parameters

ADAMW = {"optimizer": "adamw", "precision": "fp32", "lr": 1e-3}
BF16 = {"optimizer": "sgd", "precision": "bf16", "lr": 0.1}  # bf16 needs the fp32 masters, at stage 1 to 3
RULES = {
    "adamw": ADAMW,
    "bf16": BF16,
    # They look at whole parameters, and muon keeps other moments of some than of others.
    "lamb": {"config": {"optimizer": {"name": "lamb", "lr": 1e-2, "grad_clip": 0.1}}},
    "muon": {"config": {"optimizer": {"name": "muon", "lr": 1e-3, "grad_clip": 0.1}}},
}
STAGES = {kind: range(1, 4) if kind == "bf16" else range(4) for kind in RULES}
ALL_PAIRS = {kind: list(itertools.product(STAGES[kind], STAGES[kind])) for kind in ("adamw", "bf16")}
SOME_PAIRS = [(0, 3), (3, 1), (1, 2), (2, 0)]  # each stage is left once, and come to once
PAIRS = ALL_PAIRS | {"lamb": SOME_PAIRS, "muon": SOME_PAIRS}


def name_of(kind, stage, after=None, ranks=2):
    return f"{kind}-stage{stage}" if after is None else f"{kind}-stage{stage}-to-stage{after}-on-{ranks}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("elastic")


@pytest.fixture(scope="module")
def launch(folder, shards, run_worker):
    """Trains cases on so many ranks."""

    def launch(world_size, cases):
        plan = folder / f"cases-{world_size}.json"
        plan.write_text(json.dumps([{"start": None, "out_dir": str(folder), **case} for case in cases]))
        run_worker("training_worker.py", plan, shards, world_size=world_size)

    return launch


@pytest.fixture(scope="module")
def uninterrupted(launch):
    """Runs of 2 ranks at every stage that never stop, with a checkpoint half-way."""
    runs = [
        {"name": name_of(kind, stage), "stage": stage, **rule}
        for kind, rule in RULES.items()
        for stage in STAGES[kind]
    ]
    launch(2, runs)


@pytest.fixture(scope="module", params=[1, 2, 3], ids=["1 rank", "2 ranks", "3 ranks"])
def ranks(request, folder, launch, uninterrupted):
    """The number of ranks that have gone on from half-way of each of those runs, at every stage."""
    runs = [
        {
            "name": name_of(kind, before, after, request.param),
            "stage": after,
            "start": str(checkpoint(folder, name_of(kind, before), FIRST_STEPS)),
            **RULES[kind],
        }
        for kind, pairs in PAIRS.items()
        for before, after in pairs
    ]
    launch(request.param, runs)
    return request.param


@pytest.mark.parametrize(("before", "after"), PAIRS["adamw"])
def test_adamw_goes_on_from_any_stage_at_any_stage(folder, ranks, before, after):
    uninterrupted, resumed = name_of("adamw", 0), name_of("adamw", before, after, ranks)
    end = parameters(folder, uninterrupted)
    assert largest_difference(parameters(folder, uninterrupted, FIRST_STEPS), end) >= 1e-3
    assert largest_difference(parameters(folder, resumed), end) <= 1e-4
    assert largest_difference(moments(folder, resumed), moments(folder, uninterrupted)) <= 1e-5


@pytest.mark.parametrize(("before", "after"), SOME_PAIRS)
@pytest.mark.parametrize("kind", ["lamb", "muon"])
def test_lamb_and_muon_go_on_however_parameters_are_cut(folder, ranks, kind, before, after):
    uninterrupted, resumed = name_of(kind, 0), name_of(kind, before, after, ranks)
    end = parameters(folder, uninterrupted)
    assert largest_difference(parameters(folder, uninterrupted, FIRST_STEPS), end) >= 1e-2
    assert largest_difference(parameters(folder, resumed), end) <= 1e-5
    assert largest_difference(moments(folder, resumed), moments(folder, uninterrupted)) <= 1e-6


@pytest.mark.parametrize("stage", STAGES["muon"])
def test_the_log_tells_both_rates_of_muon(folder, stage):
    lines = (folder / name_of("muon", stage) / "metrics.jsonl").read_text().splitlines()
    assert [(line["lr"], line["muon_lr"]) for line in map(json.loads, lines)] == [(1e-3, 0.02)] * ALL_STEPS


@pytest.mark.parametrize("stage", STAGES["lamb"])
def test_the_log_of_another_rule_tells_one_rate(folder, stage):
    lines = (folder / name_of("lamb", stage) / "metrics.jsonl").read_text().splitlines()
    assert all("muon_lr" not in line for line in map(json.loads, lines))


@pytest.mark.parametrize(("before", "after"), PAIRS["bf16"])
def test_bf16_goes_on_with_the_fp32_values_that_were_saved(folder, ranks, before, after):
    end = parameters(folder, name_of("bf16", 1))
    change = largest_difference(parameters(folder, name_of("bf16", 1), FIRST_STEPS), end)
    assert change >= 1e-2
    assert largest_difference(parameters(folder, name_of("bf16", before, after, ranks)), end) <= 0.02 * change

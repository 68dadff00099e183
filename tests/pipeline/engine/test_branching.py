"""A run that goes on from another run's checkpoint: the same bits with the same objective, or another one."""

import json

import pytest
from safetensors.torch import load_file

SETTINGS = ("schedule.total_steps=6", "checkpoint.every=3", "log.every=1", "objective.nsp=off")


def final_parameters(run):
    return load_file(run.folder / "checkpoints" / "step-00000006" / "model.safetensors")


def rule(run, step):
    """What a checkpoint holds of losses and objective."""
    manifest = run.folder / "checkpoints" / f"step-{step:08d}" / "manifest.json"
    return json.loads(manifest.read_text())["rule"]


@pytest.fixture
def trunk(pretrain_ranks):
    run = pretrain_ranks(*SETTINGS, "steps=3", "objective.name=average", name="trunk")
    assert run.end()[0] == [0]
    return run


def branch(pretrain_ranks, trunk, *overrides, name):
    run = pretrain_ranks(*SETTINGS, "steps=6", f"checkpoint.resume={trunk.folder}", *overrides, name=name)
    return run, *run.end()


def test_a_branch_with_the_objective_of_its_trunk_is_one_run_bit_for_bit(pretrain_ranks, trunk):
    whole = pretrain_ranks(*SETTINGS, "steps=6", "objective.name=average", name="whole")
    assert whole.end()[0] == [0]
    run, codes, said = branch(pretrain_ranks, trunk, "objective.name=average", name="branch")
    assert codes == [0], said
    there, here = final_parameters(whole), final_parameters(run)
    assert all((there[name] == here[name]).all() for name in there)
    assert rule(run, 6) == rule(whole, 6)
    assert [record["lr"] for record in run.records] == [record["lr"] for record in whole.records[3:]]


def test_a_branch_may_have_another_objective_and_says_so(pretrain_ranks, trunk):
    run, codes, said = branch(
        pretrain_ranks, trunk, "objective.name=minimax", "objective.alpha=3", name="other"
    )
    assert codes == [0], said
    assert "going on after step 3 with" in said[0]
    assert "objective.name minimax, not average" in said[0]
    assert "objective.alpha 3.0, not 1.0" in said[0]
    weights = run.records[-1]["task_weight"]
    assert max(weights.values()) > 1.01 * min(weights.values())
    counts = rule(trunk, 3)["ema_counts"]
    for record in run.records:  # the losses that the trunk has pooled count on
        here = [record["task_count"][name] for name in record["task_count"]]
        counts = [0.9 * then + 0.1 * now for then, now in zip(counts, here, strict=True)]
    assert rule(run, 6)["ema_counts"] == pytest.approx(counts)

    _, codes, said = branch(pretrain_ranks, trunk, "objective.name=average", name="other")
    assert codes == [2]
    assert "objective.alpha was 3.0 there and is 1.0 now" in said[0]


def test_a_branch_may_not_have_other_heads_data_or_updates(pretrain_ranks, trunk):
    for key in ("objective.nsp=auxiliary", "seed=1", "optimizer.weight_decay=0.5"):
        _, codes, said = branch(pretrain_ranks, trunk, "objective.name=average", key, name="refused")
        assert codes == [2]
        assert f"{key.partition('=')[0]} was " in said[0]

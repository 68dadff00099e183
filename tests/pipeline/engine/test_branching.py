"""A run that goes on from another run's checkpoint: the same bits with the same objective, or another one."""

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

REMEMBERS = ("objective.name=group_dro", "objective.step_size=0.5", "objective.normalise=log")
RISES = ("objective.name=minimax", "objective.alpha_schedule=linear", "objective.normalise=initial")
COUNT_STEPS = {
    "by initial losses, with α that rises": (*RISES, "objective.window=2"),
    "by a ratio to first losses": ("objective.name=tchebycheff", "objective.window=2"),
    "by gradients and first losses": ("objective.name=gradnorm", "objective.window=2"),
    "by windows": ("objective.name=dwa", "objective.window=1"),
}
SETTINGS = ("schedule.total_steps=6", "checkpoint.every=3", "log.every=1", "objective.nsp=off")


def final_parameters(run):
    return load_file(run.folder / "checkpoints" / "step-00000006" / "model.safetensors")


def rule(run, step):
    """What a checkpoint holds of losses and objective."""
    manifest = run.folder / "checkpoints" / f"step-{step:08d}" / "manifest.json"
    return json.loads(manifest.read_text())["rule"]


def references(run):
    return yaml.safe_load((run.folder / "config.yaml").read_text())["objective"]["reference_losses"]


@pytest.fixture
def start_trunk(pretrain_ranks):
    def start_trunk(*objective):
        run = pretrain_ranks(*SETTINGS, "steps=3", *objective, name="trunk")
        assert run.end()[0] == [0]
        return run

    return start_trunk


@pytest.fixture
def trunk(start_trunk):
    return start_trunk("objective.name=average")


def branch(pretrain_ranks, trunk, *overrides, name):
    run = pretrain_ranks(*SETTINGS, "steps=6", f"checkpoint.resume={trunk.folder}", *overrides, name=name)
    return run, *run.end()


@pytest.mark.parametrize("objective", [REMEMBERS, RISES])
def test_a_branch_with_the_objective_of_its_trunk_is_one_run_bit_for_bit(
    pretrain_ranks, start_trunk, objective
):
    whole = pretrain_ranks(*SETTINGS, "steps=6", *objective, name="whole")
    assert whole.end()[0] == [0]
    run, codes, said = branch(pretrain_ranks, start_trunk(*objective), *objective, name="branch")
    assert codes == [0], said
    there, here = final_parameters(whole), final_parameters(run)
    assert all((there[name] == here[name]).all() for name in there)
    assert rule(run, 6) == rule(whole, 6)
    assert [record["lr"] for record in run.records] == [record["lr"] for record in whole.records[3:]]


@pytest.mark.parametrize("objective", COUNT_STEPS, ids=COUNT_STEPS)
def test_a_branch_whose_objective_starts_with_it_is_one_run_that_starts_it_there(
    pretrain_ranks, trunk, objective
):
    late = ("objective.start_step=3", "objective.start_name=average", *COUNT_STEPS[objective])
    whole = pretrain_ranks(*SETTINGS, "steps=6", *late, name="whole")
    assert whole.end()[0] == [0]
    run, codes, said = branch(pretrain_ranks, trunk, *late, name="branch")
    assert codes == [0], said
    weights = run.records[-1]["task_weight"]
    assert max(weights.values()) > 1.001 * min(weights.values())
    there, here = final_parameters(whole), final_parameters(run)
    assert all((there[name] == here[name]).all() for name in there)
    assert rule(run, 6) == rule(whole, 6)


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


def test_another_objective_knows_nothing_of_what_the_trunks_remembered(pretrain_ranks, start_trunk):
    trunk = start_trunk(*REMEMBERS)
    run, codes, said = branch(pretrain_ranks, trunk, *REMEMBERS, "objective.memory=0.9", name="other")
    assert codes == [0], said
    pooled = torch.tensor(rule(trunk, 3)["ema_sums"]) / torch.tensor(rule(trunk, 3)["ema_counts"])
    weights = torch.softmax(0.5 * pooled.log(), 0) / pooled  # as if all weights had been alike before
    present = torch.tensor([count > 0 for count in run.records[0]["task_count"].values()])
    expected = torch.where(present, weights * weights.sum() / weights[present].sum(), 0.0)
    assert list(run.records[0]["task_weight"].values()) == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_branch_has_the_references_of_its_own_objective(pretrain_ranks, trunk):
    excess = ("objective.name=excess", "objective.reference=unigram")
    run, codes, said = branch(pretrain_ranks, trunk, *excess, name="other")
    assert codes == [0], said
    whole = pretrain_ranks(*SETTINGS, "steps=6", *excess, name="whole")
    assert whole.end()[0] == [0]
    assert references(run) == references(whole)
    assert len(references(run)) == 9


def test_a_branch_may_not_have_other_heads_data_or_updates(pretrain_ranks, trunk):
    for key in ("objective.nsp=auxiliary", "seed=1", "optimizer.weight_decay=0.5"):
        _, codes, said = branch(pretrain_ranks, trunk, "objective.name=average", key, name="refused")
        assert codes == [2]
        assert f"{key.partition('=')[0]} was " in said[0]

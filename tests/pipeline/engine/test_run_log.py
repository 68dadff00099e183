"""Warnings and the profile of a run from the command line."""

import json

import pytest


@pytest.fixture
def train(pretrain_ranks):
    def train(*overrides, code=0):
        ranks = pretrain_ranks(*overrides)
        codes, (said,) = ranks.end()
        assert codes == [code], said
        return ranks.folder, said

    return train


def test_a_task_that_takes_all_the_weight_is_told_and_written_down(train):
    steep = ("objective.alpha=1000", "log.collapse_steps=1", "log.every=1")
    folder, said = train("steps=3", *steep)
    warnings = [json.loads(line) for line in (folder / "warnings.jsonl").read_text().splitlines()]
    assert warnings
    assert "more than 0.95 of the weight for 1 steps" in warnings[0]["warning"]
    assert all(f"tiny: warning: {line['warning']}" in said for line in warnings)


def test_a_task_without_sequences_in_a_step_is_told_of(train):
    quota = "data.quota={verb: 12}"
    folder, said = train("steps=4", quota, "log.every=4", "log.absent_steps=3", "objective.nsp=off")
    (warning,) = (line for line in said.splitlines() if "warning" in line)
    assert warning.startswith("tiny: warning: noun, adjective, determiner, ")
    assert "interjection: absent for 4 steps" in warning
    (line,) = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    assert (line["weight_entropy"], line["num_effective_tasks"]) == (0, 1)
    assert " verb" not in warning


def test_a_profile_of_two_steps_holds_the_forward_and_the_update(train):
    folder, said = train("steps=4", "profile.steps=[2,3]")
    table = (folder / "profile" / "steps-2-3.txt").read_text()
    assert "ProfilerStep*" in table
    assert "aten::addmm" in table
    assert (folder / "profile" / "steps-2-3.json.gz").stat().st_size > 10_000
    assert "steps-2-3.json.gz, for ui.perfetto.dev" in said


def test_a_profile_that_cannot_be_written_is_no_reason_to_stop(train, tmp_path):
    train("steps=2", "checkpoint.every=2")
    (tmp_path / "tiny" / "profile").write_text("in the way")
    _, said = train("steps=6", "checkpoint.every=2", "profile.steps=[4,5]")
    assert "tiny: warning: the profile cannot be written" in said


@pytest.mark.parametrize(
    ("window", "expected"), [("[5,4]", "the first, 5, comes after the last, 4"), ("[1,4]", "profile.steps")]
)
def test_a_window_that_cannot_be_is_refused(train, tmp_path, window, expected):
    _, said = train(f"profile.steps={window}", code=2)
    assert expected in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "tiny").exists()

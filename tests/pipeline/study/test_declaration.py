"""Study files with mistakes in them: one line that says where, what, and what to do, before anything runs."""

from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline.run_file import load_config
from pipeline.study.command import load_study
from pipeline.study.declaration import read_study

SHIPPED = sorted((Path(__file__).parents[3] / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_study_can_be_read_as_can_its_run_file(path):
    study = read_study(path)
    assert study.name == path.stem
    load_config(study.run_file, [])


def refusal(study):
    study.write()
    with pytest.raises(UserError) as refused:
        load_study(study.source, study.folder / "out")
    assert not (study.folder / "out").exists()
    return str(refused.value)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"seed": [0]}, 'unknown key "seed"; did you mean "seeds"?'),
        ({"arms": {"average": {"overides": {}}}}, 'key "arms.average.overides"; did you mean "overrides"?'),
        ({"evaluation": {"num_mask": 3}}, 'unknown key "evaluation.num_mask"; did you mean "num_masks"?'),
        ({"seeds": [1, 2, 1]}, "seeds: 1 stands there twice"),
        ({"seeds": []}, "seeds: list should have at least 1 item"),
        ({"baselines": ["avrage"]}, 'baselines: no arm or group "avrage"; did you mean "average"?'),
        ({"arms": {"a b": {}}}, "arms.a b"),
        (
            {"arms": {"average": {"grid": {"seed": [1, 2]}}}},
            "seed is not for a study to override; name it in",
        ),
        (
            {"arms": {"average": {"grid": {"steps": []}}}},
            "arms.average.grid.steps: list should have at least",
        ),
        (
            {"arms": {"average": {"grid": {"data.path": ["a/b"]}}}},
            '"average_a/b" is no name of an arm; write',
        ),
        (
            {"arms": {"m": {"grid": {"objective.alpha": [1]}}, "m_1": {}}},
            "arms: two arms are called m_1; rename one",
        ),
        ({"overrides": {"seed": 3}}, "overrides: seed is not for a study to override; name it in seeds"),
    ],
)
def test_a_mistake_is_told_with_its_place(study, change, said):
    study.content |= change
    assert said in refusal(study)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"trunk": "wram"}, 'arms.minimax.trunk: no trunk "wram"; did you mean "warm"?'),
        ({"overrides": {"steps": 9}}, "steps is not for a study to override: all arms take as many"),
        (
            {"overrides": {"objective.alhpa": 1}},
            'arms.minimax.overrides: unknown key "objective.alhpa"; did you',
        ),
        ({"overrides": {"objective.alpha": "big"}}, "arms.minimax.overrides: objective.alpha: "),
        ({"group": "average"}, 'arms.minimax.group: "average" is an arm outside of it; take another name'),
        ({"trunk": "warm", "overrides": {"masking.rate": 0.3}}, "masking.rate is 0.3, and 0.15 in its trunk"),
        (
            {"trunk": "warm", "overrides": {"objective.nsp": "task"}},
            "objective.nsp is 'task', and 'off' in its",
        ),
    ],
)
def test_a_mistake_in_an_arm_is_told_with_its_name(study, change, said):
    study.content["arms"]["minimax"] = change
    assert said in refusal(study)


def test_a_grid_makes_an_arm_of_each_combination(study):
    grid = {"objective.alpha": [0.3, 1.0], "optimizer.lr": [0.001, 0.002]}
    study.content["arms"]["minimax"] = {"overrides": {"objective.name": "minimax"}, "grid": grid}
    study.write()
    arms = load_study(study.source, study.folder / "out").config.arms
    expanded = {name: arm for name, arm in arms.items() if arm.group == "minimax"}
    assert list(expanded) == [
        "minimax_0.3_0.001",
        "minimax_0.3_0.002",
        "minimax_1.0_0.001",
        "minimax_1.0_0.002",
    ]
    assert expanded["minimax_1.0_0.001"].overrides == {
        "objective.name": "minimax",
        "objective.alpha": 1.0,
        "optimizer.lr": 0.001,
    }


def test_a_trunk_leaves_the_arms_something_to_do(study):
    study.content["trunks"]["warm"]["steps"] = 6
    assert "trunks.warm.steps is 6, an arm has 6; leave the arms something to do" in refusal(study)


def test_a_study_file_that_is_none_is_told(study, tmp_path):
    with pytest.raises(UserError, match=r"no such study file; did you mean"):
        load_study(tmp_path / "studdy.yaml", tmp_path / "out")
    study.source.write_text("- a list")
    with pytest.raises(UserError, match="a study file is a map"):
        load_study(study.source, tmp_path / "out")

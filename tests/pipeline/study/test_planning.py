"""What a study file means: which runs, with which settings, on which part, for how many steps."""

import json

import pytest

from data_prep.errors import UserError
from pipeline.study.command import load_study
from pipeline.study.compute import FlopCounter
from pipeline.study.identity import identity_of, write_identity
from pipeline.study.parts import missing_parts, runs_of_part


def load(study, **content):
    study.content |= content
    study.write()
    return load_study(study.source, study.folder / "out")


@pytest.fixture
def merged(study):
    """A file for data.tasks, which is not read before its run begins."""
    path = study.folder / "merged.json"
    path.write_text("tasks")
    return path


def test_there_is_a_run_for_each_arm_and_seed_with_all_overrides(study):
    planned = load(study)
    assert [(run.arm, run.seed) for run in planned.runs] == [
        *[("average", 0), ("average", 1)],
        *[("minimax", 0), ("minimax", 1)],
    ]
    assert {run.config.steps for run in planned.runs} == {6}
    assert {run.config.model.hidden_size for run in planned.runs} == {32}
    assert [run.config.objective.name for run in planned.runs] == ["average"] * 2 + ["minimax"] * 2


def test_an_arm_goes_on_from_the_trunk_of_its_seed_on_the_schedule_of_the_whole(study):
    planned = load(study)
    assert [trunk.config.seed for trunk in planned.trunks] == [0, 1]
    for run in planned.runs[2:]:
        assert run.config.checkpoint.resume == str(run.trunk.checkpoint)
        assert run.trunk.config.seed == run.seed
        assert (run.trunk.config.steps, run.trunk.config.schedule.total_steps) == (3, 6)
        assert run.trunk.config.objective.name == "average"


def test_an_arm_may_go_on_from_its_trunk_with_other_tasks(study, merged):
    keys = {"masking.policy": "random"}
    study.content["arms"]["minimax"]["overrides"]["data.tasks"] = str(merged)
    planned = load(study, overrides=study.content["overrides"] | keys)
    assert {run.config.data.tasks for run in planned.runs} == {None, merged}
    assert {trunk.config.data.tasks for trunk in planned.trunks} == {None}


def test_an_arm_whose_file_of_tasks_is_not_there_is_refused(study):
    keys = {"masking.policy": "random", "data.tasks": "nowhere.json"}
    with pytest.raises(UserError, match=r"data\.tasks: nowhere\.json: no such file"):
        load(study, overrides=study.content["overrides"] | keys)


def test_what_a_run_is_made_of_holds_the_content_of_its_tasks_and_only_if_it_has_some(study, merged):
    without = identity_of(load(study).runs[0])
    assert not {key for key in without if key.startswith("data.tasks")}
    keys = {"masking.policy": "random", "data.tasks": str(merged)}

    def found(path):
        overrides = study.content["overrides"] | keys | {"data.tasks": str(path)}
        return identity_of(load(study, overrides=overrides).runs[0])

    here = found(merged)
    assert found(merged.rename(merged.with_name("moved.json"))) == here
    (study.folder / "moved.json").write_text("another")
    assert {key for key, value in found(study.folder / "moved.json").items() if here[key] != value} == {
        "data.tasks"
    }


def test_runs_of_a_trunk_are_in_one_part_and_no_run_is_in_two(study):
    arms = {name: {"trunk": "warm"} for name in ("first", "second", "third")}
    planned = load(study, arms={**arms, "alone": {}}, baselines=["alone"], seeds=[0, 1, 2])
    parts = [runs_of_part(planned, part, 4) for part in range(4)]
    assert sorted(run.title for part in parts for run in part) == sorted(run.title for run in planned.runs)
    for number, part in enumerate(parts):
        others = [run for other in parts[:number] + parts[number + 1 :] for run in other]
        trunks = {run.trunk.folder for run in part if run.trunk}
        assert not trunks & {run.trunk.folder for run in others if run.trunk}
    assert missing_parts(planned, 4) == [0, 1, 2, 3]
    assert missing_parts(planned, 20) == list(range(6))  # three trunks with their arms, three runs alone


def test_an_arm_that_costs_more_takes_fewer_steps_at_equal_compute(study):
    two_pass = {"overrides": {"objective.name": "minimax", "objective.estimator": "two_pass"}}
    from_step_30 = {"objective.start_step": 30, "objective.start_name": "average"}
    arms = {
        "average": {"overrides": {"objective.name": "average"}, "equal_compute": True},
        "exact": {**two_pass, "equal_compute": True},
        "warm_exact": {**two_pass, "trunk": "warm", "equal_compute": True},
        "late_exact": {"overrides": {**two_pass["overrides"], **from_step_30}, "equal_compute": True},
        "with_gradients": {"overrides": {"objective.name": "gradnorm"}, "equal_compute": True},
        "exact_but_not_asked": two_pass,
    }
    study.content["overrides"]["steps"] = 60
    study.content["trunks"]["warm"]["steps"] = 30
    planned = load(study, arms=arms)
    counter = FlopCounter()
    budget = counter.of_run(planned.runs[0])
    extra = [run for run in planned.runs if run.compute == "equal compute"]
    assert [(run.arm, run.seed) for run in extra] == [
        *[("exact", 0), ("exact", 1)],
        *[("warm_exact", 0), ("warm_exact", 1)],
        *[("late_exact", 0), ("late_exact", 1)],
        *[("with_gradients", 0), ("with_gradients", 1)],
    ]
    for run in extra:
        num_steps = run.config.steps
        next_step = counter.of_steps(run.config).between(num_steps, num_steps + 1)
        assert budget - next_step < counter.of_run(run) <= budget
        assert run.config.schedule.total_steps == run.config.steps
    steps = {run.arm: run.config.steps for run in extra}
    assert steps["exact"] == pytest.approx(60 * 3 / 4, abs=2)  # forward and backward are 3 forward passes
    assert steps["warm_exact"] == pytest.approx(30 + 30 * 3 / 4, abs=2)
    assert steps["late_exact"] == steps["warm_exact"]
    assert steps["with_gradients"] == 59
    trunks = {run.trunk.config.schedule.total_steps for run in extra if run.trunk}
    assert trunks == {steps["warm_exact"]}
    assert {run.arm for run in planned.of("equal compute")} == {"average", *steps}
    assert {run.compute for run in planned.of("equal steps")} == {"equal steps"}


def file_of(folder, losses):
    folder.mkdir(exist_ok=True)
    (folder / "losses.yaml").write_text(json.dumps(losses))
    return folder / "losses.yaml"


def run_of(folder, losses):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"step": step, "task_loss": losses}) for step in (1, 2)]
    (folder / "validation.jsonl").write_text("\n".join([json.dumps({"step": 0, "task_loss": {}}), *lines]))
    return folder


@pytest.mark.parametrize("write", [file_of, run_of])
def test_of_a_reference_the_losses_count_and_not_the_place(study, tmp_path, write):
    def load_excess(place):
        reference = {"objective.name": "excess", "objective.reference": str(place)}
        return load(study, arms={"excess": {"overrides": reference}}, baselines=["excess"])

    losses = {"noun": 4.5, "verb": 3.0}
    there = write(tmp_path / "there", losses)
    for run in load_excess(there).runs:
        assert run.config.objective.reference_losses == losses
        write_identity(run)
    load_excess(write(tmp_path / "elsewhere", losses))
    write(tmp_path / "there", losses | {"noun": 4.0})
    with pytest.raises(UserError, match=r"objective\.reference_losses\.noun was 4\.5 there and is 4\.0 now"):
        load_excess(there)


def test_a_reference_that_cannot_be_read_is_refused_before_anything_runs(study, tmp_path):
    reference = {"objective.name": "excess", "objective.reference": str(tmp_path / "nowhere")}
    with pytest.raises(UserError, match="no such file or folder"):
        load(study, arms={"excess": {"overrides": reference}}, baselines=["excess"])

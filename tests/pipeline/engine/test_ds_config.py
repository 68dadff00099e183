"""The DeepSpeed JSON: every typo refused, every contradiction named, the rest filled from the run file."""

import json
from pathlib import Path

import pytest

from data_prep.errors import UserError
from pipeline.config import RunConfig
from pipeline.engine.ds_config import complete_ds_config, default_ds_config, load_ds_config, zero_stage

SHIPPED = sorted((Path(__file__).parents[3] / "ds_configs").glob("*.json"))


def run_config(**keys):
    return RunConfig.model_validate(
        {
            "name": "x",
            "steps": 5,
            "data": {"path": "shards"},
            "batch": {"global_size": 12, "micro_size": 4},
            **keys,
        }
    )


@pytest.fixture
def ds_json(tmp_path):
    def write(content):
        path = tmp_path / "ds.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_json_is_accepted(path):
    settings = load_ds_config(path)
    assert zero_stage(settings) == int(path.stem.removeprefix("zero"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"zero_optimisation": {"stage": 1}},
            'unknown key "zero_optimisation"; did you mean "zero_optimization"',
        ),
        ({"gradient_clippin": 1.0}, 'unknown key "gradient_clippin"; did you mean "gradient_clipping"'),
        (
            {"zero_optimization": {"stagee": 1}},
            'unknown key "zero_optimization.stagee"; did you mean "stage"',
        ),
        ({"zero_optimization": {"stage": 7}}, "zero_optimization.stage"),
        ({"zero_optimization": 1}, '"zero_optimization" is 1, but must be an object'),
        (
            {"zero_optimization": {"stage": 3, "offload_param": {"devicee": "cpu"}}},
            "zero_optimization.offload_param.devicee",
        ),
        ({"bf16": {"enable": True}}, 'unknown key "bf16.enable"; did you mean "enabled"'),
        ({"tensorboard": {"enabled": True}}, 'unknown key "tensorboard"'),
        ({"zero_optimization": {"stage": "auto"}}, '"zero_optimization.stage" must be 0, 1, 2 or 3'),
        ({"steps_per_print": "often"}, '"steps_per_print" is "often", but must be of int'),
        ({"communication_data_type": "fp99"}, "must be of fp32, fp16, bf16"),
        ({"data_types": {"grad_accum_dtype": "fp99"}}, "data_types.grad_accum_dtype"),
        ('{"bf16": {}, "bf16": {}}', 'key "bf16" stands twice'),
        ("{", "not JSON"),
        ("[]", "a DeepSpeed JSON is an object, not a list"),
    ],
)
def test_each_mistake_is_one_line_that_names_file_and_key(ds_json, content, expected):
    path = ds_json(content)
    with pytest.raises(UserError) as refusal:
        load_ds_config(path)
    assert str(refusal.value).startswith(str(path))
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("precision", "world_size", "stage"), [("fp32", 1, 0), ("fp32", 2, 1), ("bf16", 1, 1), ("bf16", 2, 1)]
)
def test_without_a_json_optimizer_state_is_divided_wherever_it_can_be(precision, world_size, stage):
    assert zero_stage(default_ds_config(precision, world_size)) == stage


def test_a_missing_json_is_named(tmp_path):
    with pytest.raises(UserError, match="no such DeepSpeed JSON"):
        load_ds_config(tmp_path / "none.json")


def test_the_run_file_decides_batch_clipping_and_precision():
    completed = complete_ds_config(
        {"gradient_clipping": "auto", "zero_optimization": {"stage": 2}}, run_config(precision="bf16"), 2
    )
    assert completed["train_micro_batch_size_per_gpu"] == 4
    assert completed["gradient_accumulation_steps"] == 2  # 3 micro-batches on 2 ranks, one of them empty
    assert completed["train_batch_size"] == 16
    assert completed["bf16"]["enabled"] and not completed["fp16"]["enabled"]
    assert completed["zero_optimization"] == {"stage": 2}


def test_clipping_is_said_even_when_off_since_deepspeed_clips_at_one_without_the_key():
    config = run_config(optimizer={"grad_clip": 0})
    assert complete_ds_config({}, config, 1)["gradient_clipping"] == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gradient_clipping": 0.5}, ['"gradient_clipping" is 0.5', "(optimizer.grad_clip)", "1.0"]),
        ({"train_micro_batch_size_per_gpu": 8}, ["is 8", "(batch.micro_size)", "4"]),
        ({"bf16": {"enabled": True}}, ['"bf16.enabled" is true', "(precision)", "false"]),
        ({"optimizer": {"type": "Adam"}}, ['"optimizer" belongs to the run file (optimizer.name)']),
        ({"zero_force_ds_cpu_optimizer": True}, ["zero_force_ds_cpu_optimizer", "false"]),
    ],
)
def test_a_contradiction_names_both_places(settings, expected):
    with pytest.raises(UserError) as refusal:
        complete_ds_config(settings, run_config(deepspeed="ds.json"), 1)
    for part in ["ds.json", *expected]:
        assert part in str(refusal.value)


def test_the_batch_of_the_run_file_is_no_contradiction_where_the_last_round_is_padded():
    completed = complete_ds_config({"train_batch_size": 12}, run_config(), 2)
    assert completed["train_batch_size"] == 16


def test_equal_values_are_no_contradiction():
    settings = {"gradient_clipping": 1.0, "train_batch_size": 12, "bf16": {"enabled": "auto"}}
    assert complete_ds_config(settings, run_config(), 3)["gradient_accumulation_steps"] == 1

"""The DeepSpeed JSON: every typo refused, every contradiction named, the rest filled from the run file."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from data_prep.errors import UserError
from pipeline.config import OptimizerConfig, RunConfig
from pipeline.engine import workarounds
from pipeline.engine.ds_config import (
    complete_ds_config,
    default_ds_config,
    ds_settings_of,
    load_ds_config,
    zero_stage,
)

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
    stage = re.match(r"zero(\d)", path.stem)
    assert zero_stage(load_ds_config(path)) == (int(stage[1]) if stage else 1)


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
            'unknown key "zero_optimization.offload_param.devicee"; did you mean "device"?',
        ),
        ({"bf16": {"enable": True}}, 'unknown key "bf16.enable"; did you mean "enabled"'),
        ({"tensorboard": {"enabled": True}}, 'unknown key "tensorboard"'),
        (
            {"zero_optimization": {"stage": "auto"}},
            '"zero_optimization.stage" is "auto", but nothing fills it',
        ),
        ({"zero_optimization": {"stage": True}}, '"zero_optimization.stage" is true, which is a flag'),
        (
            {"zero_optimization": {"cpu_offload": True}},
            '"zero_optimization.cpu_offload" is an old name; use offload_opt',
        ),
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


def test_sizes_may_be_written_as_deepspeed_writes_them_under_both_names_of_a_key(ds_json):
    zero = {"stage": 3, "reduce_bucket_size": 5e8, "stage3_max_live_parameters": 1e9, "max_reuse_distance": 1}
    assert load_ds_config(ds_json({"zero_optimization": zero}))["zero_optimization"] == zero


def test_the_loss_scale_of_the_json_reaches_deepspeed_where_the_run_file_says_fp16():
    settings = {"fp16": {"initial_scale_power": 12}}
    completed = complete_ds_config(settings, run_config(precision="fp16"), 1)
    assert completed["fp16"] == {"initial_scale_power": 12, "enabled": True}


def test_a_loss_scale_that_the_run_file_may_turn_off_is_no_contradiction():
    settings = {"fp16": {"enabled": "auto", "initial_scale_power": 12}}
    assert not complete_ds_config(settings, run_config(), 1)["fp16"]["enabled"]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_stage_0_goes_with_fp32_alone(ds_json, precision):
    config = run_config(precision=precision, deepspeed=ds_json({"zero_optimization": {"stage": 0}}))
    if precision == "fp32":
        assert ds_settings_of(config, 1) == {"zero_optimization": {"stage": 0}}
    else:
        with pytest.raises(UserError, match="bf16 does not go with ZeRO stage 0"):
            ds_settings_of(config, 1)


@pytest.mark.parametrize(("world_size", "is_refused"), [(3, True), (4, False)])
def test_groups_that_keep_all_parameters_divide_the_ranks(ds_json, world_size, is_refused):
    path = ds_json({"zero_optimization": {"stage": 3, "zero_hpz_partition_size": 2}})
    with pytest.raises(UserError, match="2 does not divide 3, the ranks") if is_refused else nullcontext():
        ds_settings_of(run_config(deepspeed=path), world_size)


def test_parameters_on_nvme_need_libaio_and_a_folder(ds_json, tmp_path):
    from deepspeed.accelerator import get_accelerator

    offload = {"device": "nvme", "nvme_path": str(tmp_path / "none")}
    path = ds_json({"zero_optimization": {"stage": 3, "offload_param": offload}})
    has_libaio = get_accelerator().create_op_builder("AsyncIOBuilder").is_compatible()
    with pytest.raises(UserError, match="none is no folder here" if has_libaio else "install it .libaio-dev"):
        ds_settings_of(run_config(deepspeed=path), 1)


@pytest.mark.parametrize(
    ("zero", "expected"),
    [
        ({"zenflow": {"offload": True}}, '"zero_optimization.zenflow" needs an optimizer of DeepSpeed'),
        ({"offload_optimizer": {"device": "cpu", "super_offload": True}}, "offload_optimizer.super_offload"),
        ({"zero_quantized_gradients": True}, '"zero_optimization.zero_quantized_gradients" needs a GPU'),
    ],
)
def test_what_deepspeed_would_fail_with_later_is_refused_at_once(ds_json, zero, expected):
    path = ds_json({"zero_optimization": {"stage": 3, **zero}})
    with pytest.raises(UserError, match=re.escape(expected)):
        ds_settings_of(run_config(deepspeed=path), 1)


GPU, CPU = torch.device("cuda"), torch.device("cpu")
ON_HOST = {"offload_optimizer": {"device": "cpu"}}


@pytest.fixture
def nvidias_apex(tmp_path, monkeypatch):
    """A package of the shape of NVIDIA's, with its kernels."""
    (tmp_path / "apex" / "optimizers").mkdir(parents=True)
    for name in ("apex/__init__.py", "apex/optimizers/fused_adam.py", "amp_C.py"):
        (tmp_path / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "apex"


@pytest.mark.parametrize(
    ("implementation", "zero", "device", "expected"),
    [
        ("torch", {"stage": 3, **ON_HOST}, GPU, None),
        ("deepspeed_cpu", {"stage": 2, **ON_HOST}, GPU, None),
        ("deepspeed_cpu", {"stage": 2}, CPU, None),
        (
            "deepspeed_cpu",
            {"stage": 2},
            GPU,
            "needs the optimizer in host memory; use ds_configs/zero2-offload",
        ),
        ("apex", {"stage": 2}, GPU, None),
        ("apex", {"stage": 2}, CPU, "needs the optimizer on a GPU; leave the key out"),
        ("apex", {"stage": 2, **ON_HOST}, GPU, "needs the optimizer on a GPU"),
        ("apex", {"stage": 3}, GPU, 'miscounts steps at "zero_optimization.stage" 3; use another stage'),
    ],
)
def test_an_implementation_of_adamw_is_refused_where_it_would_fail_or_be_wrong(
    nvidias_apex, implementation, zero, device, expected
):
    config = OptimizerConfig(implementation=implementation)
    reason = workarounds.refusal_of_optimizer(config, zero, device)
    assert (
        reason is None
        if expected is None
        else f"optimizer.implementation {implementation} {expected}" in reason
    )
    assert workarounds.refusal_of_host(config, zero) is None


def test_apex_without_its_kernels_and_another_package_of_its_name_are_refused(nvidias_apex):
    config = OptimizerConfig(implementation="apex")
    (nvidias_apex.parent / "amp_C.py").unlink()
    assert "was built without CUDA kernels" in workarounds.refusal_of_host(config, {})
    (nvidias_apex / "optimizers" / "fused_adam.py").unlink()
    assert "is not NVIDIA's but another package" in workarounds.refusal_of_host(config, {})

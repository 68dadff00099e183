"""The DeepSpeed JSON: refused where it is mistaken, completed from the run file where it says "auto"."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, get_args

import torch
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from data_prep.errors import UserError, nearest
from pipeline.config import RunConfig
from pipeline.engine import activation_checkpointing, workarounds
from pipeline.engine.refusals import refusal_of_settings

Allowed = tuple[type, ...] | tuple[str, ...]
"""Types, or names, that a value may have."""

_TYPES = ("fp32", "fp16", "bf16")
_VALUES_OF_JSON: dict[str, Allowed] = {
    "communication_data_type": _TYPES,
    "prescale_gradients": (bool,),
    "gradient_predivide_factor": (int, float),
    "disable_allgather": (bool,),
    "steps_per_print": (int,),
    "wall_clock_breakdown": (bool,),
    "memory_breakdown": (bool,),
    "dump_state": (bool,),
}
_OWNED_BY_RUN_FILE = {
    "train_batch_size": "batch.global_size",
    "train_micro_batch_size_per_gpu": "batch.micro_size",
    "gradient_accumulation_steps": "batch.global_size",
    "gradient_clipping": "optimizer.grad_clip",
    "bf16": "precision",
    "fp16": "precision",
    "optimizer": "optimizer.name",
    "scheduler": "schedule.name",
}
_PLAIN_SECTIONS: dict[str, dict[str, Allowed]] = {
    "data_types": {"grad_accum_dtype": _TYPES},
    "aio": {
        "block_size": (int,),
        "queue_depth": (int,),
        "intra_op_parallelism": (int,),
        "single_submit": (bool,),
        "overlap_events": (bool,),
        "use_gds": (bool,),
    },
    activation_checkpointing.SECTION: activation_checkpointing.VALUES,
}
"""Sections that DeepSpeed reads without a model of its own."""
_OWNED_BY_JSON = {"zero_optimization", "comms_logger"} | _PLAIN_SECTIONS.keys() | _VALUES_OF_JSON.keys()
_FILLED = {"bf16.enabled", "fp16.enabled"}
"""Nested keys whose "auto" the run file fills."""
_STAGES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "offload_optimizer": ({"device": "none"}, (1, 2, 3)),
    "offload_param": ({"device": "none"}, (3,)),
    "zero_hpz_partition_size": (1, (3,)),
    "zero_quantized_weights": (False, (3,)),
    "zero_quantized_nontrainable_weights": (False, (3,)),
    "zero_quantized_gradients": (False, (3,)),
}
"""By key of zero_optimization: the value that asks for nothing, and the stages where others count."""


def default_ds_config(precision: str, world_size: int) -> dict[str, Any]:
    """What a run without a JSON trains with: ds_configs/zero1.json, but for one rank in fp32 zero0.json.

    There is nothing to divide then, and at stage 1 DeepSpeed copies every gradient all the same.
    """
    return {"zero_optimization": {"stage": 0 if precision == "fp32" and world_size == 1 else 1}}


def given_ds_config(config: RunConfig, world_size: int) -> dict[str, Any]:
    """The DeepSpeed JSON that a run file names, or the default; raises UserError as `load_ds_config`."""
    if config.deepspeed:
        return load_ds_config(config.deepspeed)
    return default_ds_config(config.precision, world_size)


def ds_settings_of(config: RunConfig, world_size: int) -> dict[str, Any]:
    """The DeepSpeed JSON of a run, or the default, with all refused that can be before data are read.

    Raises:
        UserError: a mistake in the JSON, a contradiction with the run file, or what cannot run here.
    """
    path = config.deepspeed
    settings = given_ds_config(config, world_size)
    complete_ds_config(settings, config, world_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reason = workarounds.refusal_of_host(config.optimizer, settings.get("zero_optimization", {}))
    reason = reason or refusal_of_settings(settings, config, world_size, device)
    if reason:
        raise UserError(f"{path}: {reason}" if path else reason)
    return settings


def load_ds_config(path: Path) -> dict[str, Any]:
    """Read a DeepSpeed JSON and check every key.

    Raises:
        UserError: a missing or malformed file, an unknown key at any level, a bad value.
    """
    settings = _read(path)
    known = _OWNED_BY_JSON | _OWNED_BY_RUN_FILE.keys() | workarounds.REQUIRED_SETTINGS.keys()
    _refuse_unknown(settings, known, "", path)
    for key, model in _sections().items():
        if key in settings:
            _check_section(settings[key], model, key, path)
    for section, values in _PLAIN_SECTIONS.items():
        _check_object(settings.get(section, {}), section, path)
        _refuse_unknown(settings.get(section, {}), values.keys(), f"{section}.", path)
        for key, value in settings.get(section, {}).items():
            _check_value(value, values[key], f"{section}.{key}", path)
    for key, allowed in _VALUES_OF_JSON.items():
        if key in settings:
            _check_value(settings[key], allowed, key, path)
    _check_stage(settings.get("zero_optimization", {}), path)
    if meaningless := activation_checkpointing.meaningless(settings):
        raise UserError(f"{path}: {meaningless}")
    return settings


def zero_stage(settings: dict[str, Any]) -> int:
    """The ZeRO stage of a DeepSpeed JSON."""
    return int(settings.get("zero_optimization", {}).get("stage", 0))


def complete_ds_config(settings: dict[str, Any], config: RunConfig, world_size: int) -> dict[str, Any]:
    """What DeepSpeed is given: the JSON with everything that the run file decides.

    Raises:
        UserError: the JSON and the run file contradict each other.
    """
    source = config.deepspeed or Path("DeepSpeed JSON")
    rounds = -(-config.batch.num_micro_batches // world_size)
    decided = {
        # Counts empty micro-batches of the last round too: DeepSpeed only checks the product.
        "train_batch_size": config.batch.micro_size * rounds * world_size,
        "train_micro_batch_size_per_gpu": config.batch.micro_size,
        "gradient_accumulation_steps": rounds,
        # DeepSpeed clips at 1.0 when the key is absent.
        "gradient_clipping": config.optimizer.grad_clip,
    }
    completed = dict(settings)
    for key, value in decided.items():
        expected = config.batch.global_size if key == "train_batch_size" else value
        _require_equal(settings.get(key, "auto"), expected, key, source)
        completed[key] = value
    for key in ("bf16", "fp16"):
        section = settings.get(key, {})
        enabled = config.precision == key
        if not enabled and "enabled" not in section and section:
            raise UserError(
                f'{source}: "{key}.{next(iter(section))}" is set, but the run file (precision) makes it '
                f'{config.precision}; set precision={key}, or "{key}.enabled": "auto"'
            )
        _require_equal(section.get("enabled", "auto"), enabled, f"{key}.enabled", source)
        completed[key] = {**section, "enabled": enabled}
    for key in ("optimizer", "scheduler"):
        if completed.pop(key, "auto") != "auto":
            raise UserError(
                f'{source}: "{key}" belongs to the run file ({_OWNED_BY_RUN_FILE[key]}); remove it, or "auto"'
            )
    for key, value in workarounds.REQUIRED_SETTINGS.items():
        _require_equal(settings.get(key, value), value, key, source)
        completed[key] = value
    completed.setdefault("steps_per_print", config.steps + 1)
    return completed


def _read(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a DeepSpeed JSON")
    if not path.exists():
        others = [str(other) for other in path.parent.glob("*.json")]
        raise UserError(f"{path}: no such DeepSpeed JSON{nearest(str(path), others) or '; see ds_configs/'}")
    try:
        settings = json.loads(path.read_text(), object_pairs_hook=_without_repetition)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: a DeepSpeed JSON is an object, not a {type(settings).__name__}")
    return settings


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise json.JSONDecodeError(f'key "{key}" stands twice', "", 0)
    return dict(pairs)


def _sections() -> dict[str, type[BaseModel]]:
    """DeepSpeed's own models of the nested sections, which know their keys and types."""
    workarounds.before_import()
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    return {
        "zero_optimization": DeepSpeedZeroConfig,
        "bf16": DeepSpeedBF16Config,
        "fp16": DeepSpeedFP16Config,
        "comms_logger": CommsLoggerConfig,
    }


def _check_section(section: Any, model: type[BaseModel], key: str, path: Path) -> None:
    _check_object(section, key, path)
    fields = dict(model.model_fields)
    fields |= {field.alias: field for field in model.model_fields.values() if field.alias}
    _refuse_unknown(section, fields, f"{key}.", path)
    for name, value in section.items():
        if f"{key}.{name}" in _FILLED and value == "auto":
            continue
        nested = _nested_model(fields[name])
        if nested and value is not None:
            _check_section(value, nested, f"{key}.{name}", path)
        else:
            _check_field(value, fields[name], f"{key}.{name}", path)
    try:
        model(**section)
    except ValidationError as error:
        raise _refusal_of(error, section, key, path) from error


def _nested_model(field: FieldInfo) -> type[BaseModel] | None:
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _check_field(value: Any, field: FieldInfo, key: str, path: Path) -> None:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("deprecated"):
        raise UserError(f'{path}: "{key}" is an old name; use {extra["new_param"]}')
    if value == "auto":
        raise UserError(f'{path}: "{key}" is "auto", but nothing fills it in; give a value, or leave it out')
    if isinstance(value, bool) and bool not in (field.annotation, *get_args(field.annotation)):
        raise UserError(
            f'{path}: "{key}" is {json.dumps(value)}, which is a flag; leave it out, or give a value'
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # sizes are written as 5e8
    kind: Any = Annotated[field.annotation, Field(), *field.metadata]
    try:
        TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise _refusal_of(error, value, key, path) from error


def _refusal_of(error: ValidationError, value: Any, key: str, path: Path) -> UserError:
    first = error.errors()[0]
    where = ".".join([key, *map(str, first["loc"])])
    message = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    close = ""
    if first["type"] == "enum":  # DeepSpeed's has two names for stage 3
        choices = list(dict.fromkeys(re.findall(r"\d+|(?<=')\w+(?=')", first["ctx"]["expected"])))
        message = f"must be one of {', '.join(choices)}"
        close = nearest(str(value), choices)
    given = f", not {json.dumps(value)}" if not isinstance(value, dict) else ""
    return UserError(f'{path}: "{where}": {message[0].lower()}{message[1:]}{given}{close}')


def _check_stage(zero: dict[str, Any], path: Path) -> None:
    """Refuse what has no meaning at the stage, and offloading to nowhere."""
    stage = zero.get("stage", 0)
    for key, (nothing, stages) in _STAGES.items():
        if zero.get(key, nothing) not in (None, nothing) and stage not in stages:
            needed = f"needs stage {' or '.join(map(str, stages))}"
            there = f'"zero_optimization.stage" is {stage}'
            raise UserError(f'{path}: "zero_optimization.{key}" {needed}, {there}')
    for key in ("offload_param", "offload_optimizer"):
        offload = zero.get(key)
        if offload is not None and "device" not in offload:
            raise UserError(f'{path}: "zero_optimization.{key}.device" is missing: cpu, nvme or none')
        if offload and offload["device"] == "nvme" and not offload.get("nvme_path"):
            raise UserError(
                f'{path}: "zero_optimization.{key}.nvme_path" is missing: a folder on a local NVMe'
            )


def _check_object(section: Any, key: str, path: Path) -> None:
    if not isinstance(section, dict):
        mend = '; leave it out, or give {"enabled": "auto"}' if f"{key}.enabled" in _FILLED else ""
        raise UserError(f'{path}: "{key}" is {json.dumps(section)}, but must be an object{mend}')


def _check_value(value: Any, allowed: Allowed, key: str, path: Path) -> None:
    names = [item if isinstance(item, str) else item.__name__ for item in allowed]
    if value not in allowed and type(value) not in allowed:
        close = nearest(str(value), names)
        raise UserError(f'{path}: "{key}" is {json.dumps(value)}, but must be of {", ".join(names)}{close}')


def _require_equal(given: Any, value: Any, key: str, source: Path) -> None:
    is_equal = given == value and isinstance(given, bool) == isinstance(value, bool)
    if given != "auto" and not is_equal:
        section = _OWNED_BY_RUN_FILE.get(key.split(".")[0])
        there = f"the run file ({section}) makes it" if section else "this program needs"
        raise UserError(
            f'{source}: "{key}" is {json.dumps(given)}, but {there} {json.dumps(value)}; set "auto"'
        )


def _refuse_unknown(section: dict[str, Any], known: Collection[str], prefix: str, path: Path) -> None:
    for key in section:
        if key not in known:
            raise UserError(f'{path}: unknown key "{prefix}{key}"{nearest(key, known)}')

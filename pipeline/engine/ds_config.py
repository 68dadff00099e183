"""The DeepSpeed JSON: refused where it is mistaken, completed from the run file where it says "auto"."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from data_prep.errors import UserError, nearest
from pipeline.config import RunConfig
from pipeline.engine import workarounds

_TYPES = ("fp32", "fp16", "bf16")
_SECTIONS_OF_JSON = {"zero_optimization", "comms_logger", "data_types", "aio"}
_VALUES_OF_JSON: dict[str, tuple[type, ...] | tuple[str, ...]] = {
    "communication_data_type": _TYPES,
    "prescale_gradients": (bool,),
    "gradient_predivide_factor": (int, float),
    "disable_allgather": (bool,),
    "steps_per_print": (int,),
    "wall_clock_breakdown": (bool,),
    "memory_breakdown": (bool,),
    "dump_state": (bool,),
}
"""Types, or names, that a value may have."""
_OWNED_BY_JSON = _SECTIONS_OF_JSON | _VALUES_OF_JSON.keys()
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
_AIO_KEYS = {
    "block_size",
    "queue_depth",
    "intra_op_parallelism",
    "single_submit",
    "overlap_events",
    "use_gds",
}


def default_ds_config(precision: str, world_size: int) -> dict[str, Any]:
    """What a run without a JSON trains with: ds_configs/zero1.json, but for one rank in fp32 zero0.json.

    There is nothing to divide then, and at stage 1 DeepSpeed copies every gradient all the same.
    """
    return {"zero_optimization": {"stage": 0 if precision == "fp32" and world_size == 1 else 1}}


def load_ds_config(path: Path) -> dict[str, Any]:
    """Read a DeepSpeed JSON and check every key.

    Raises:
        UserError: a missing or malformed file, an unknown key at any level, a bad value.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such DeepSpeed JSON; see ds_configs/")
    try:
        settings = json.loads(path.read_text(), object_pairs_hook=_without_repetition)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: a DeepSpeed JSON is an object, not a {type(settings).__name__}")
    _refuse_unknown(
        settings, _OWNED_BY_JSON | _OWNED_BY_RUN_FILE.keys() | workarounds.REQUIRED_SETTINGS.keys(), "", path
    )
    for key, model in _sections().items():
        if key in settings:
            _check_section(settings[key], model, key, path)
    for key, allowed in _VALUES_OF_JSON.items():
        if key in settings:
            _check_value(settings[key], allowed, key, path)
    if "grad_accum_dtype" in settings.get("data_types", {}):
        _check_value(settings["data_types"]["grad_accum_dtype"], _TYPES, "data_types.grad_accum_dtype", path)
    if settings.get("zero_optimization", {}).get("stage") == "auto":
        raise UserError(f'{path}: "zero_optimization.stage" must be 0, 1, 2 or 3, not "auto"')
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


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise json.JSONDecodeError(f'key "{key}" stands twice', "", 0)
    return dict(pairs)


def _check_value(value: Any, allowed: tuple[type, ...] | tuple[str, ...], key: str, path: Path) -> None:
    names = [item if isinstance(item, str) else item.__name__ for item in allowed]
    if value not in allowed and type(value) not in allowed:
        raise UserError(f'{path}: "{key}" is {json.dumps(value)}, but must be of {", ".join(names)}')


def _require_equal(given: Any, value: Any, key: str, source: Path) -> None:
    if given not in ("auto", value):
        section = _OWNED_BY_RUN_FILE.get(key.split(".")[0])
        there = f"the run file ({section}) makes it" if section else "this program needs"
        raise UserError(
            f'{source}: "{key}" is {json.dumps(given)}, but {there} {json.dumps(value)}; set "auto"'
        )


def _sections() -> dict[str, type[BaseModel] | set[str]]:
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
        "data_types": {"grad_accum_dtype"},
        "aio": _AIO_KEYS,
    }


def _check_section(section: Any, model: type[BaseModel] | set[str], key: str, path: Path) -> None:
    if not isinstance(section, dict):
        raise UserError(f'{path}: "{key}" is {json.dumps(section)}, but must be an object')
    if isinstance(model, set):
        _refuse_unknown(section, model, f"{key}.", path)
        return
    names = {field.alias or name for name, field in model.model_fields.items()}
    _refuse_unknown(section, names | set(model.model_fields), f"{key}.", path)
    try:
        model(**{name: value for name, value in section.items() if value != "auto"})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            raise UserError(f'{path}: unknown key "{where}"') from error
        raise UserError(f'{path}: "{where}": {first["msg"]}, not {first["input"]!r}') from error


def _refuse_unknown(section: dict[str, Any], known: set[str], prefix: str, path: Path) -> None:
    for key in section:
        if key not in known:
            raise UserError(f'{path}: unknown key "{prefix}{key}"{nearest(key, known)}')

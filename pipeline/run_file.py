"""Reading a run file: what is wrong with one, where, and the nearest key; and the list of all keys."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from data_prep.errors import UserError, nearest
from pipeline.config import RunConfig


def load_config(path: Path, overrides: list[str]) -> RunConfig:
    """Read a run file and apply `key=value` overrides.

    Raises:
        UserError: a missing or malformed file, an unknown key (with the nearest known one), a bad value.
    """
    from_file = _read(path)
    for override in overrides:
        if "=" not in override:
            raise UserError(f'command line: "{override}" is not of the form key=value')
    try:
        from_command = OmegaConf.from_dotlist(overrides)
        merged = OmegaConf.to_container(OmegaConf.merge(from_file, from_command), resolve=True)
        given = OmegaConf.to_container(from_command)
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, AttributeError) as error:
        raise UserError(f"{path} with {' '.join(overrides) or 'no overrides'}: {error}") from error
    if not isinstance(merged, dict) or not isinstance(given, dict):
        raise UserError(f"{path}: a run file is a map from keys to values")
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        raise UserError(_explain(error, path, given)) from error


def _read(path: Path) -> Any:
    """The content of a run file, as OmegaConf keeps it."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a run file")
    if not path.exists():
        others = [str(other) for other in path.parent.glob("*.yaml")]
        raise UserError(f"{path}: no such run file{nearest(str(path), others)}")
    try:
        return OmegaConf.load(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'not a map from keys to values'}") from error
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {error}") from error


def config_keys() -> dict[str, tuple[str, str]]:
    """Every key of a run file with its default (empty where one must be given) and its meaning.

    The meaning of a key with few possible values begins with them.
    """
    keys: dict[str, tuple[str, str]] = {}
    for key, field in _fields(RunConfig):
        default = "" if field.is_required() else _as_written(field.get_default())
        choices = _choices(field.annotation)
        meaning = field.description or ""
        keys[key] = (default, f"One of {', '.join(choices)}. {meaning}" if len(choices) > 1 else meaning)
    return keys


def _fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{key}.")
        else:
            yield key, field


def _as_written(value: Any) -> str:
    """A default as it would stand in a run file."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    return str(list(value) if isinstance(value, tuple) else value)


def _choices(annotation: Any) -> list[str]:
    """The values that a type allows where it is a choice among few; a map beside them is named."""
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    parts = [choice for part in get_args(annotation) for choice in _choices(part)]
    return [*parts, "a map"] if parts and get_origin(get_args(annotation)[-1]) is dict else parts


def _explain(error: ValidationError, path: Path, from_command: dict[Any, Any]) -> str:
    """The first mistake as one line: file or command line, key, what is wrong, the nearest known name."""
    by_key: dict[str, list[ErrorDetails]] = {}
    for each in error.errors():
        by_key.setdefault(_key_of(each["loc"]), []).append(each)
    # What is missing may be there under a name that is wrong.
    key, branches = min(by_key.items(), key=lambda item: item[1][0]["type"] == "missing")
    # Of a union's branches the one that looked deepest into the value knows best what is wrong with it.
    first = max(branches, key=lambda branch: len(branch["loc"]))
    where = "command line" if _given(key, from_command) else str(path)
    if not key and from_command:
        where = f"{path} and command line"
    more = f" (and {len(by_key) - 1} more)" if len(by_key) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f'{where}: unknown key "{key}"{nearest(key, _names())}{more}'
    inside = [str(part) for part in first["loc"][key.count(".") + 1 :] if "[" not in str(part)]
    place = ".".join([key, *inside] if key else inside)
    if first["type"] == "missing":
        meaning = config_keys().get(key, ("", "a section of keys"))[1]
        return f'{where}: "{place}" is missing: {meaning}{more}'
    if first["type"] in ("model_type", "model_attributes_type"):
        keys = ", ".join(name for name in config_keys() if name.startswith(f"{key}."))
        return f'{where}: "{key}" is a section of keys ({keys}), not {first["input"]!r}{more}'
    message = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(first["input"], dict) else f", not {first['input']!r}"
    choices = re.findall(r"'([^']+)'", first.get("ctx", {}).get("expected", ""))
    close = nearest(str(first["input"]), choices)
    return f"{where}: {place + ': ' if place else ''}{message[0].lower()}{message[1:]}{value}{close}{more}"


def _names() -> list[str]:
    """Keys and sections."""
    keys = list(config_keys())
    return [*keys, *dict.fromkeys(key.partition(".")[0] for key in keys)]


def _key_of(place: tuple[int | str, ...]) -> str:
    """The dotted key of an error's place, without what is inside its value."""
    parts = [str(part) for part in place]
    known = config_keys()
    for length in range(1, len(parts) + 1):
        if ".".join(parts[:length]) in known:
            return ".".join(parts[:length])
    return ".".join(parts)


def _given(key: str, values: dict[Any, Any]) -> bool:
    node: Any = values
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return bool(key)

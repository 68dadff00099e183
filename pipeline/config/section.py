"""What all sections of a run file have in common."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Decay = Annotated[float, Field(ge=0, lt=1)]
"""What a moving average keeps per step."""


class Section(BaseModel):
    """Frozen, and refuses unknown keys, numbers that are not finite, and flags for numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag_for_a_number(cls, value: Any, field: ValidationInfo) -> Any:
        """YAML reads on, yes and true as a flag, which would count as 1."""
        wanted = cls.model_fields[field.field_name or ""].annotation
        if isinstance(value, bool) and wanted in (int, float, int | None):
            raise ValueError("must be a number")
        return value


def refuse_unread(section: Section, choice: str, readers: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError for a key that the value of the key `choice` does not read, unless it has its default.

    With their defaults all keys stand in a resolved run file. `readers` says which values read a key; a key
    that is not in it is read in any case.
    """
    value = getattr(section, choice)
    for key, names in readers.items():
        if value not in names and getattr(section, key) != type(section).model_fields[key].default:
            raise ValueError(
                f"{key} is for {', '.join(names)}, not for {value}; leave it out, or change {choice}"
            )

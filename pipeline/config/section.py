"""What all sections of a run file have in common."""

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

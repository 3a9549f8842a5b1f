"""A part of the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from pipeline.configuration.kinds import check_kind


class Section(BaseModel):
    """A part of the configuration; keys that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _of_a_kind_that_is_meant(cls, value: Any, info: ValidationInfo) -> Any:
        return check_kind(value, cls.model_fields[str(info.field_name)].annotation)

"""What every settings model is: strict, frozen, and silent about the values it refuses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Nothing unknown, nothing converted, nothing changed afterwards, and no input in error texts."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # most are only ever validated as a part of another, which has it built in
    )

"""What all settings have in common: unknown keys are refused, and whether a setting affects results is marked."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NOT_IN_RESULTS: dict[str, Any] = {"affects_results": False}
"""Marks a setting that changes where or how fast, never what."""


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values are fixed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

"""What every part of a result is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of all parts: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Interval(Record):
    """An estimate with its confidence interval; None where it is not defined."""

    estimate: float | None
    lower: float | None
    upper: float | None
    confidence: float = 0.95
    method: str = Field(default="", description="Name of the interval, e.g. 'clustered DeLong, logit scale'")


class LevelRecord(Record):
    """One level of a condition."""

    name: str
    value: float
    unit: str

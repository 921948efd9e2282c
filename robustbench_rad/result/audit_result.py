"""Everything an audit found, as one JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from robustbench_rad.result.evidence import Criterion, Curve, Table
from robustbench_rad.result.pictures import Picture
from robustbench_rad.result.record import Record
from robustbench_rad.result.regression import Regression
from robustbench_rad.result.score import Score
from robustbench_rad.result.summaries import (
    Certifiable,
    DataSummary,
    FindingSummary,
    ModelSummary,
    PreflightItem,
    Provenance,
)
from robustbench_rad.result.terms import Verdict

SCHEMA_VERSION = "1.0"


class AuditResult(Record):
    """Everything an audit found."""

    schema_version: str = SCHEMA_VERSION
    title: str
    verdict: Verdict
    complete: bool = True
    model: ModelSummary
    data: DataSummary
    preflight: list[PreflightItem]
    findings: list[FindingSummary]
    criteria: list[Criterion]
    curves: list[Curve] = Field(default_factory=list)
    tables: list[Table] = Field(default_factory=list)
    pictures: list[Picture] = Field(default_factory=list)
    certifiable: list[Certifiable] = Field(default_factory=list, description="What these cases can show at all")
    score: Score
    regression: Regression | None = Field(default=None, description="Comparison with a baseline, when one was given")
    notices: list[str] = Field(default_factory=list, description="Warnings in plain words")
    plan: dict[str, Any] = Field(description="The effective plan")
    provenance: Provenance

    @field_validator("schema_version")
    @classmethod
    def _same_major(cls, version: str) -> str:
        if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
            raise ValueError(f"expected version {SCHEMA_VERSION}, got {version!r}")
        return version

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> AuditResult:
        """Read a result file.

        Raises:
            DataError: Not a result of a known schema version; names the file and the first wrong place.
        """
        from pydantic import ValidationError

        from robustbench_rad.errors import DataError

        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read: {error.strerror}",
                hint="A run folder holds a result once its audit is complete: run the same audit command to continue it. "
                "What a check does: robustbench-rad list -v ID.",
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            raise DataError(
                f"{path}: not a result of schema {SCHEMA_VERSION}: {place}: {first['msg']}",
                hint="Make it again with this version: robustbench-rad audit plan.toml",
            ) from error

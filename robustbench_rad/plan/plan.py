"""A whole plan: its sections, and what must agree among them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from robustbench_rad.errors import suggestion
from robustbench_rad.plan.data_section import DataSection
from robustbench_rad.plan.model_section import ModelSection
from robustbench_rad.plan.section import Probability, Section

Format = Literal["html", "markdown", "junit"]
FORMATS: tuple[Format, ...] = ("html", "markdown", "junit")


class ClaimSection(Section):
    """[claims.<finding>]: what the release says of itself."""

    auroc: Annotated[float, Field(gt=0.5, le=1.0)] | None = None
    sensitivity: Probability | None = None
    specificity: Probability | None = None


class RunSection(Section):
    """[run]: machinery; never changes a number."""

    folder: str | None = None
    chunk_size: Annotated[int, Field(ge=1)] = 64
    batch_size: Annotated[int, Field(ge=1)] = 32
    workers: Annotated[int, Field(ge=0, le=64)] = 0
    allow_pickle: bool = False


class ReportSection(Section):
    """[report]: what is written."""

    images: bool = False
    formats: list[Format] = Field(default_factory=lambda: list(FORMATS))


class Plan(Section):
    """A whole plan. See the README for an annotated example."""

    title: str = "Robustness audit"
    profile: str = "standard"
    seed: int = 20260101
    device: str = "auto"
    inconclusive: Literal["block", "allow"] = "block"
    model: ModelSection
    data: DataSection
    claims: dict[str, ClaimSection] = Field(default_factory=dict)
    checks: dict[str, dict[str, Any] | bool] = Field(default_factory=dict)
    run: RunSection = RunSection()
    report: ReportSection = ReportSection()
    base: Path = Field(default=Path(), exclude=True)
    source: str = Field(default="plan", exclude=True)

    @model_validator(mode="after")
    def _names(self) -> Self:
        places: dict[str, Mapping[str, object]] = {
            "claims": self.claims,
            "data.findings": self.data.findings,
            "data.prevalence": self.data.prevalence,
            "data.cost": self.data.cost,
            "data.readers": self.data.readers,
        }
        for place, table in places.items():
            for name in table:
                if name not in self.model.names:
                    raise ValueError(f"{place}: {name!r} is not a finding. {suggestion(name, self.model.names)}")
        if (self.data.modality == "CT") != (self.model.input.window_hu is not None):
            expected = "window_hu, e.g. [-1000, 400]" if self.data.modality == "CT" else "range, e.g. [0.0, 1.0]"
            given = "range" if self.data.modality == "CT" else "window_hu"
            raise ValueError(f"model.input: data.modality {self.data.modality!r} needs {expected}; {given} is given")
        return self

    def path(self, text: str) -> Path:
        """Resolve a path of the plan against its base folder."""
        return self.base / Path(text).expanduser()

    @property
    def profile_folder(self) -> Path:
        """Where a profile file is looked for: the base folder; where it holds none of that name, beside the plan's file."""
        plan = Path(self.source)
        return plan.parent if plan.is_file() and not (self.base / self.profile).is_file() else self.base

    def effective(self) -> dict[str, Any]:
        """The plan as plain data, defaults filled in, for the record."""
        return self.model_dump(mode="json")

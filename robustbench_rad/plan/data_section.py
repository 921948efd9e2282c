"""[data]: the labelled test set."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robustbench_rad.plan.mask_sections import AnatomySection, LesionSection, TissueSection
from robustbench_rad.plan.section import Probability, Section

Role = Literal["nuisance", "risk_factor", "demographic"]


class DataSection(Section):
    """[data]: the labelled test set."""

    source: Literal["manifest", "dicom", "npz", "factory"] = "manifest"
    manifest: str | None = None
    root: str | None = None
    image: str = "image"
    case: str | None = None
    patient: str | None = None
    findings: dict[str, str] = Field(default_factory=dict)
    uncertain: Literal["unknown", "positive", "negative"] = "unknown"
    modality: Literal["CR", "DX", "CT", "MR", "MG", "US"] = "DX"
    stored_bits: Annotated[int, Field(ge=1, le=16)] | None = None
    spacing_mm: str | Annotated[float, Field(gt=0)] | None = None
    role: Literal["internal", "external", "temporal"] = "internal"
    metadata: dict[str, Role] = Field(default_factory=dict)
    readers: dict[str, list[str]] = Field(default_factory=dict)
    anatomy: AnatomySection | None = None
    lesion: LesionSection | None = None
    tissue: TissueSection | None = None
    prevalence: dict[str, Probability] = Field(default_factory=dict)
    cost: dict[str, dict[Literal["miss", "false_alarm"], float]] = Field(default_factory=dict)
    on_unreadable: Literal["fail", "skip"] = "fail"
    split: str = "test"
    factory: str | None = None
    max_cases: Annotated[int, Field(ge=1)] | None = None
    training_manifest: str | None = None
    training_patient: str | None = None
    training_image: str | None = None

    @model_validator(mode="after")
    def _training(self) -> Self:
        if self.training_manifest is None:
            for key in ("training_patient", "training_image"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} is a column of training_manifest, which is not given")
        elif self.training_patient is None and self.patient is None:
            raise ValueError(
                "training_manifest: name its column of patients, e.g. training_patient = 'patient_id'; without patients "
                "nothing can be compared"
            )
        return self

    @model_validator(mode="after")
    def _source(self) -> Self:
        needed = {
            "manifest": ("manifest", self.manifest),
            "npz": ("manifest", self.manifest),
            "dicom": ("root", self.root),
            "factory": ("factory", self.factory),
        }
        key, value = needed[self.source]
        if value is None:
            raise ValueError(f"source = {self.source!r} needs {key}")
        return self

    @model_validator(mode="after")
    def _tissue(self) -> Self:
        if self.tissue is None:
            return self
        if self.modality != "MR":
            raise ValueError(f"tissue: maps of the brain's tissues belong to MR, and modality is {self.modality}")
        if self.source == "npz":
            raise ValueError("tissue: an NPZ archive has no files beside its images; give a manifest of NIfTI or DICOM")
        if (self.tissue.column is None) != (self.source == "factory"):
            raise ValueError(
                "tissue: name the column of the maps; items of a factory have theirs under the key 'tissue'"
            )
        return self

    @model_validator(mode="after")
    def _readers(self) -> Self:
        for finding, columns in self.readers.items():
            if len(set(columns)) != len(columns) or len(columns) < 2:
                raise ValueError(f"readers.{finding}: name the label columns of two readers or more, each once")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is kept as text beside a case: metadata, then the labels of single readers."""
        readers = [column for columns in self.readers.values() for column in columns]
        return tuple(dict.fromkeys([*self.metadata, *readers]))

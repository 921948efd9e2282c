"""[model]: where the classifier comes from, what it was trained on and what its outputs mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from robustbench_rad.defences.sections import AnyDefence, check_axes
from robustbench_rad.errors import suggestion
from robustbench_rad.plan.section import Probability, Section


class InputSection(Section):
    """[model.input]: what the model was trained on."""

    size: Annotated[tuple[int, ...], Field(min_length=2, max_length=3)]
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    antialias: bool = True
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    range: tuple[float, float] | None = None
    window_hu: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @field_validator("size")
    @classmethod
    def _positive(cls, size: tuple[int, ...]) -> tuple[int, ...]:
        if any(side < 1 for side in size):
            raise ValueError("every side must be at least 1")
        return size

    @field_validator("std")
    @classmethod
    def _not_zero(cls, std: tuple[float, ...]) -> tuple[float, ...]:
        if any(value <= 0 for value in std):
            raise ValueError("every value must be above 0")
        return std

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        if (self.range is None) == (self.window_hu is None):
            raise ValueError(
                "declare exactly one of range (radiograph, MR) and window_hu (CT): the input range is never guessed"
            )
        low, high = self.range or self.window_hu or (0.0, 1.0)
        if not low < high:
            raise ValueError(f"the lower end {low} must be below the upper end {high}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name} has {len(values)} values for {self.channels} channels")
        return self


class ModelSection(Section):
    """[model]: where the classifier comes from and what its outputs mean."""

    factory: str
    weights: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    head: Literal["sigmoid", "softmax", "single-logit"]
    outputs: Literal["logits", "probabilities"] = "logits"
    findings: list[str] | dict[str, list[str]]
    classes: list[str] = Field(default_factory=list)
    thresholds: dict[str, Probability] = Field(default_factory=dict)
    saliency_layer: str | None = None
    defences: list[AnyDefence] = Field(default_factory=list)
    compare_undefended: bool = True
    input: InputSection

    @property
    def names(self) -> tuple[str, ...]:
        """K finding names."""
        return tuple(self.findings)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.findings:
            raise ValueError("findings: name at least one")
        if len(set(self.names)) != len(self.names):
            raise ValueError("findings: a name appears twice")
        if self.head == "single-logit" and len(self.names) != 1:
            raise ValueError(f"head 'single-logit' has one finding, findings names {len(self.names)}")
        for name in self.thresholds:
            if name not in self.names:
                raise ValueError(f"thresholds: {name!r} is not a finding. {suggestion(name, self.names)}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name appears twice")
        self._check_groups()
        check_axes(self.defences, self.input.size)
        return self

    def measured(self) -> dict[str, Any]:
        """What of this section decides what is measured, as plain data; files are known by their hashes."""
        left_out = {"factory", "weights", "sha256", "compare_undefended", *([] if self.defences else ["defences"])}
        return self.model_dump(mode="json", exclude=left_out)

    def _check_groups(self) -> None:
        if self.head != "softmax":
            self._check_outputs()
            return
        if len(self.classes) < 2:
            raise ValueError("head 'softmax' needs classes = [...], in the order of the outputs")
        for name, group in self.groups.items():
            for member in group:
                if member not in self.classes:
                    raise ValueError(f"findings.{name}: {member!r} is not a class. {suggestion(member, self.classes)}")
            if not 0 < len(set(group)) < len(self.classes) or len(set(group)) != len(group):
                raise ValueError(f"findings.{name}: a group holds at least one class, each once, and not all")
            if len(group) > 1 and name not in self.thresholds:
                raise ValueError(
                    f"findings.{name}: a group of classes needs a threshold: thresholds = {{ {name} = 0.5 }}"
                )

    def _check_outputs(self) -> None:
        if isinstance(self.findings, dict):
            raise ValueError("findings: groups of classes belong to head 'softmax'")
        if self.classes and self.head == "single-logit":
            raise ValueError("classes: head 'single-logit' has one output, the finding itself")
        for name in self.findings if self.classes else []:
            if name not in self.classes:
                raise ValueError(f"findings: {name!r} is not an output. {suggestion(name, self.classes)}")

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of the classes (softmax) or of the one output (sigmoid) of each finding."""
        if isinstance(self.findings, dict):
            return self.findings
        return {name: [name] for name in self.findings}

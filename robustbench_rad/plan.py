"""The plan: what is audited, on which cases, under which profile. One TOML file, strictly validated.

An unknown key is an error that suggests the nearest known one; a wrong value names file, key, what was expected and
what came. Relative paths are relative to the plan's folder, or to ``root`` when one is given on the command line.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from robustbench_rad.defences.sections import AnyDefence, check_axes
from robustbench_rad.errors import DataError, PlanError, nearest, suggestion

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Probability = Annotated[float, Field(gt=0.0, lt=1.0)]
Role = Literal["nuisance", "risk_factor", "demographic"]


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


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
    arguments: dict[str, Any] = {}
    head: Literal["sigmoid", "softmax", "single-logit"]
    outputs: Literal["logits", "probabilities"] = "logits"
    findings: list[str] | dict[str, list[str]]
    classes: list[str] = []
    thresholds: dict[str, Probability] = {}
    saliency_layer: str | None = None
    defences: list[AnyDefence] = []
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


class AnatomySection(Section):
    """[data.anatomy]: where masks of the anatomy come from; exactly one.

    ``legitimate`` says of a finding where else its evidence may lie: a mask file, ``costophrenic-angles``, or ``exempt``
    (anywhere: a device).
    """

    column: str | None = None
    atlas: str | None = None
    provider: str | None = None
    legitimate: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.provider is not None:
            from robustbench_rad.anatomy_providers import import_string

            try:
                import_string(self.provider)
            except DataError as error:
                raise ValueError(f"{error.message.removeprefix('data.anatomy.')}. {error.hint}") from error
        if sum(value is not None for value in (self.column, self.atlas, self.provider)) != 1:
            raise ValueError("declare exactly one of column, atlas and provider")
        return self


class LesionSection(Section):
    """[data.lesion]: where lesions are (masks or boxes), and how small they may be."""

    column: str | None = None
    boxes: str | None = None
    diameter_mm: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.column is not None and self.boxes is not None:
            raise ValueError("declare column (masks) or boxes, not both")
        if (self.column, self.boxes, self.diameter_mm) == (None, None, None):
            raise ValueError("declare column (masks), boxes or diameter_mm")
        return self


class TissueSection(Section):
    """[data.tissue]: maps of the brain's tissues, and the number that a map has for each of them."""

    column: str | None = None
    fluid: Annotated[int, Field(ge=1)] = 1
    grey_matter: Annotated[int, Field(ge=1)] = 2
    white_matter: Annotated[int, Field(ge=1)] = 3

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Of fluid, grey matter and white matter."""
        return self.fluid, self.grey_matter, self.white_matter

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.numbers)) < 3:
            raise ValueError(f"fluid, grey_matter and white_matter: expected three numbers, got {self.numbers}")
        return self


class DataSection(Section):
    """[data]: the labelled test set."""

    source: Literal["manifest", "dicom", "npz", "factory"] = "manifest"
    manifest: str | None = None
    root: str | None = None
    image: str = "image"
    case: str | None = None
    patient: str | None = None
    findings: dict[str, str] = {}
    uncertain: Literal["unknown", "positive", "negative"] = "unknown"
    modality: Literal["CR", "DX", "CT", "MR", "MG", "US"] = "DX"
    stored_bits: Annotated[int, Field(ge=1, le=16)] | None = None
    spacing_mm: str | Annotated[float, Field(gt=0)] | None = None
    role: Literal["internal", "external", "temporal"] = "internal"
    metadata: dict[str, Role] = {}
    readers: dict[str, list[str]] = {}
    anatomy: AnatomySection | None = None
    lesion: LesionSection | None = None
    tissue: TissueSection | None = None
    prevalence: dict[str, Probability] = {}
    cost: dict[str, dict[Literal["miss", "false_alarm"], float]] = {}
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
    formats: list[Literal["html", "markdown", "junit"]] = ["html", "markdown", "junit"]


class Plan(Section):
    """A whole plan. See the README for an annotated example."""

    title: str = "Robustness audit"
    profile: str = "standard"
    seed: int = 20260101
    device: str = "auto"
    inconclusive: Literal["block", "allow"] = "block"
    model: ModelSection
    data: DataSection
    claims: dict[str, ClaimSection] = {}
    checks: dict[str, dict[str, Any] | bool] = {}
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


def read_plan(path: Path, *, root: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Plan:
    """Read and validate a plan file.

    Args:
        path: The TOML file.
        root: Folder that relative paths are taken from; default: the plan's own folder.
        overrides: Top-level keys that replace the file's (from command-line flags).

    Raises:
        PlanError: Not readable, not TOML, or not a valid plan.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(
            f"{path}: cannot be read: {error.strerror}", hint="Write one with: robustbench-rad init"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: not valid TOML: {error}") from error
    content.update({key: value for key, value in (overrides or {}).items() if value is not None})
    return make_plan(content, base=root or path.parent, source=str(path))


def make_plan(content: Mapping[str, Any], *, base: Path, source: str = "plan") -> Plan:
    """Validate a plan given as nested mappings.

    Raises:
        PlanError: Names source, key, what was expected and what came.
    """
    for key in ("base", "source"):
        if key in content:
            raise PlanError(f"{source}: {key}: unknown key. {suggestion(key, _fields_at(Plan, []))}")
    try:
        plan = Plan.model_validate_json(json.dumps(content, default=str), strict=True)  # strict JSON: "1" is no number
    except ValidationError as error:
        raise PlanError("\n".join(f"{source}: {line}" for line in explain(error, Plan))) from error
    return plan.model_copy(update={"base": base, "source": source})


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line per problem: key, what was expected, what came, nearest known key."""
    lines: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for problem in error.errors():
        place = [str(part) for part in problem["loc"] if not _is_tag(part)]
        key = ".".join(place)
        lines.setdefault(key, []).append(_expected(problem, root, place))
        if problem["type"] not in _SELF_EXPLAINING:
            given[key] = f", got {problem['input']!r}{_nearest(problem)}"
    return [
        f"{key}: {text}" if key else text
        for key, said in lines.items()
        if (text := " or ".join(dict.fromkeys(said)).replace(" or expected ", " or ") + given.get(key, ""))
    ]


_SELF_EXPLAINING = ("extra_forbidden", "missing", "value_error")


def _is_tag(part: int | str) -> bool:
    """Whether pydantic put the name of a type between the keys, as it does for alternatives."""
    return isinstance(part, str) and (
        "[" in part or part in ("str", "bool", "float") or part.startswith("constrained-")
    )


def _expected(problem: ErrorDetails, root: type[BaseModel], place: list[str]) -> str:
    if problem["type"] == "extra_forbidden":
        return f"unknown key. {suggestion(place[-1], _fields_at(root, place[:-1]))}"
    if problem["type"] == "missing":
        return "missing; it must be given"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] == "model_type" and "column" in (fields := _fields_at(root, place)):
        return f"expected a table, e.g. {place[-1]} = {_named(problem['input'], fields)}"
    said = problem["msg"][:1].lower() + problem["msg"][1:]
    return said.replace("input should be", "expected").replace("valid array", "list").replace("an object", "a table")


def _nearest(problem: ErrorDetails) -> str:
    """The nearest of several words that were expected; "" where none is near, as the message names them all."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    near = nearest(problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return "" if near is None else f". Did you mean {near!r}?"


def _named(given: object, fields: Sequence[str]) -> str:
    """A section in the form that it should have, of what was given in its place."""
    from robustbench_rad.anatomy_providers import NAMED

    name = given if isinstance(given, str) and given else "lung_mask"
    key = "provider" if "provider" in fields and name in NAMED else "column"
    return f"{{ {key} = {json.dumps(name, ensure_ascii=False)} }}"


def _fields_at(model: type[BaseModel], place: list[str]) -> list[str]:
    for part in place:
        field = model.model_fields.get(part)
        nested = [kind for kind in _kinds(field.annotation if field else None) if _is_model(kind)]
        if not nested:
            continue
        model = nested[0]
    return [name for name in model.model_fields if name not in ("base", "source") or model is not Plan]


def _kinds(annotation: object) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(kind for argument in arguments for kind in _kinds(argument))]


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def digest(content: object) -> str:
    """SHA-256 of plain data in canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

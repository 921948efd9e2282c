"""The sections of a first plan, from what was seen of data and model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_rad.init_columns import Columns, role_of
from robustbench_rad.init_data import DataLook
from robustbench_rad.init_images import ImagesLook
from robustbench_rad.init_text import Entry, Note, Section, Value, decide, guessed, listed, place, seen

if TYPE_CHECKING:
    from robustbench_rad.init_head import Head
    from robustbench_rad.init_model import ModelLook

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LEAST_SIDE_FOR_HULL = 64
MOST_VALUES = 20
BODIES = ("CR", "DX", "CT", "MR")
ATTRIBUTE_ROLES = (
    ("Manufacturer", "nuisance"),
    ("ManufacturerModelName", "nuisance"),
    ("DetectorType", "nuisance"),
    ("KVP", "nuisance"),
    ("ConvolutionKernel", "nuisance"),
    ("SliceThickness", "nuisance"),
    ("MagneticFieldStrength", "nuisance"),
    ("ViewPosition", "risk_factor"),
    ("PatientSex", "demographic"),
    ("PatientAge", "demographic"),
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What [model] and the rest must agree on."""

    model: tuple[Section, ...]
    title: str
    findings: Mapping[str, str]


def plan_sections(data: DataLook, *, base: Path, model: str, weights: str) -> list[Section]:
    """Make all sections of the plan.

    Raises:
        ModelError: The model cannot be loaded.
    """
    parts = _with_model(data, base, model, weights) if model else _without_model(data)
    top = Section(
        entries=(
            Entry(key="title", value=parts.title),
            Entry(key="profile", value="standard", note=decide("quick | standard | full, or a TOML file of your own")),
        )
    )
    findings = [Entry(key=name, value=column) for name, column in parts.findings.items()]
    if findings and data.source == "npz":
        findings[0] = Entry(key=findings[0].key, value=findings[0].value, note=seen("the number of the column"))
    sections = [
        top,
        *parts.model,
        Section(name="data", entries=tuple(_data(data, base, parts))),
        Section(name="data.findings", entries=tuple(findings)),
        Section(name="data.metadata", entries=tuple(_metadata(data))),
        Section(name="claims", entries=(_claims(parts),)),
        Section(
            name="report",
            entries=(
                Entry(key="images", value=False, note=decide("true only when the images may be shown to readers")),
            ),
        ),
    ]
    return [section for section in sections if section.entries]


def _with_model(data: DataLook, base: Path, factory: str, weights: str) -> Parts:
    from robustbench_rad.init_head import suggest_head
    from robustbench_rad.init_model import look_at_model

    model = look_at_model(factory, weights, square=data.images.square)
    head = suggest_head(model, data.labels, data.labels_note)
    named = factory.rpartition(":")[2] if ":" in factory else Path(factory).stem
    section = Section(name="model", entries=(*_where(model, base), *head.entries, *_more_labels(data, head)))
    inputs = Section(name="model.input", entries=tuple(_input(data.images, model)))
    return Parts(model=(section, head.thresholds, inputs), title=f"{named} on {data.name}", findings=head.findings)


def _where(model: ModelLook, base: Path) -> Iterator[Entry]:
    yield Entry(key="factory", value=factory_text(model.factory, base))
    if model.weights:
        yield Entry(key="weights", value=place(Path.cwd() / model.weights, base), note=seen("they fit the model"))
    elif ":" in model.factory:
        note = decide("the trained weights, unless the factory loads them")
        yield Entry(key="weights", value="weights.safetensors", note=note, active=False)
    if model.sha256:
        note = seen("take the # away to accept no other file")
        yield Entry(key="sha256", value=model.sha256, note=note, active=False)


def factory_text(factory: str, base: Path) -> str:
    """The factory as the plan names it; files relative to the plan."""
    path, colon, name = factory.rpartition(":")
    if colon and not path.endswith(".py"):
        return factory
    file = place(Path.cwd() / Path(path if colon else name).expanduser(), base)
    return f"{file}:{name}" if colon else file


def _more_labels(data: DataLook, head: Head) -> Iterator[Entry]:
    left = [name for name in data.labels if name not in head.findings]
    if left and head.findings:
        yield Entry(note=seen(f"labels without an output: {listed(left, 20)}"))


def _input(images: ImagesLook, model: ModelLook) -> Iterator[Entry]:
    size, note = model.size
    failed = decide(f"the side lengths; {note.text}")
    yield Entry(key="size", value=list(size), note=note if size else failed)
    yield _resize(model.hints.resize, model.hints.source)
    yield Entry(key="channels", value=model.channels[0], note=model.channels[1])
    yield _range(images, model.hints.range, model.hints.source)
    yield from _normalisation(model)


def _resize(told: str, source: str) -> Entry:
    options = decide("stretch | pad | crop, as in training")
    return Entry(key="resize", value=told or "stretch", note=guessed(f"the text of {source}") if told else options)


def _range(images: ImagesLook, told: tuple[float, float] | None, source: str) -> Entry:
    """Window or input range; a range that the images seen leave is not written."""
    if images.modality[0] == "CT":
        note = decide("lower and upper end of the window in HU, as in training, e.g. [-1000, 400]")
        return Entry(key="window_hu", value=[], note=note)
    limits = told or (0.0, 1.0)
    values = images.values if images.kind in ("raster", "array") else None
    if values and (values[0] < limits[0] or values[1] > limits[1]):
        return Entry(key="range", value=[], note=decide(f"values from {values[0]:g} to {values[1]:g} were seen"))
    note = (
        guessed(f"the text of {source}")
        if told
        else decide("what black and white were in training, before mean and std")
    )
    return Entry(key="range", value=list(limits), note=note)


def _normalisation(model: ModelLook) -> Iterator[Entry]:
    channels = model.channels[0]
    if len(model.mean) == len(model.std) and len(model.mean) in (1, channels):
        pair, note, active = (model.mean, model.std), guessed("the model's own configuration"), True
    elif model.hints.imagenet and channels == 3:
        pair, note, active = IMAGENET, guessed(f"ImageNet, by the text of {model.hints.source}"), True
    else:
        pair = IMAGENET if channels == 3 else ((0.5,), (0.5,))
        note, active = decide("as in training; without it nothing is subtracted or divided"), False
    yield Entry(key="mean", value=list(pair[0]), note=note, active=active)
    yield Entry(key="std", value=list(pair[1]), note=note if active else decide("as mean"), active=active)


def _without_model(data: DataLook) -> Parts:
    """A skeleton: what the model is, is left to the user."""
    from robustbench_rad.init_head import thresholds

    names: Value = list(data.labels)
    later = decide("or run init again with --model, which finds most of this out")
    entries = (
        Entry(key="factory", value="my_package.models:build", note=later, active=False),
        Entry(key="weights", value="weights.safetensors", note=decide("the trained weights"), active=False),
        Entry(key="head", value="sigmoid", note=decide("sigmoid | softmax | single-logit"), active=False),
        Entry(key="outputs", value="logits", note=decide("logits | probabilities"), active=False),
        Entry(key="findings", value=names, note=data.labels_note or decide("the outputs, in their order")),
    )
    side = data.images.square or 224
    inputs = (
        Entry(key="size", value=[], note=decide(f"e.g. [{side}, {side}]; images: {data.images.size_text()}")),
        Entry(key="channels", value=1, note=decide("1 | 3"), active=False),
        _range(data.images, None, ""),
        Entry(key="mean", value=[0.485, 0.456, 0.406], note=decide("as in training"), active=False),
        Entry(key="std", value=[0.229, 0.224, 0.225], note=decide("as in training"), active=False),
    )
    sections = (Section(name="model", entries=entries), thresholds(list(data.labels)))
    return Parts(
        model=(*sections, Section(name="model.input", entries=inputs)),
        title=f"A classifier on {data.name}",
        findings=data.labels,
    )


def _data(data: DataLook, base: Path, parts: Parts) -> Iterator[Entry]:
    yield from _files(data, base)
    if data.columns:
        yield from _identity(data.columns, data.source)
    elif data.source == "dicom":
        yield Entry(note=_FROM_HEADERS)
    else:
        yield Entry(note=decide("the archive names no patients: each image counts as a patient of its own"))
    yield from _pictures(data)
    yield Entry(
        key="role", value="internal", note=decide("internal | external | temporal, compared with the training data")
    )
    yield from _masks(data, base)
    yield from _rates(parts)


def _files(data: DataLook, base: Path) -> Iterator[Entry]:
    yield Entry(key="source", value=data.source, note=seen(f"{data.images.kind} images") if data.columns else None)
    if data.manifest:
        yield Entry(key="manifest", value=place(data.manifest, base), note=data.manifest_note)
    else:
        note = decide("a CSV with SOPInstanceUID and one column of 1 and 0 per finding; none was seen")
        yield Entry(key="manifest", value="labels.csv", note=note)
    if data.split:
        yield Entry(key="split", value=data.split, note=data.split_note)
    if data.root:
        note = seen("the DICOM files are below" if data.source == "dicom" else "the paths are relative to it")
        yield Entry(key="root", value=place(data.root, base), note=note)


_FROM_HEADERS = seen("no column names patients; they are taken from PatientID in the files")


def _identity(columns: Columns, source: str) -> Iterator[Entry]:
    if columns.image:
        found = f"{len(columns.images)} of {columns.tried} paths tried exist"
        yield Entry(key="image", value=columns.image, note=seen(found))
    if columns.case:
        yield Entry(key="case", value=columns.case, note=guessed("unique in every row; the images are not"))
    if columns.patient:
        count = len(columns.values[columns.patient])
        yield Entry(key="patient", value=columns.patient, note=seen(f"{count} patients"))
    elif source == "manifest":
        none = "no column named like it; without one each image counts as a patient of its own"
        yield Entry(key="patient", value="patient_id", note=decide(none), active=False)
    else:
        yield Entry(note=_FROM_HEADERS)
    if columns.uncertain:
        where = decide(f"unknown | positive | negative: what -1 means in {listed(columns.uncertain)}")
        yield Entry(key="uncertain", value="unknown", note=where)
    if columns.odd_labels:
        yield Entry(note=seen(f"named like labels, but not of 1, 0, -1 and empty: {listed(columns.odd_labels)}"))


def _pictures(data: DataLook) -> Iterator[Entry]:
    images = data.images
    modality, note = images.modality
    yield Entry(key="modality", value=modality, note=note)
    bits, bits_note = images.bits
    yield Entry(key="stored_bits", value=bits or 16, note=bits_note, active=bits is not None)
    yield Entry(note=seen(f"sizes of {len(images.looks)} images looked at: {images.size_text()}"))
    if images.failures:
        yield Entry(note=seen(f"{len(images.failures)} could not be read: {images.failures[0]}"))
    if data.columns and data.columns.spacing:
        note = decide("only if it is the spacing of these files in mm, not of the originals before resizing")
        yield Entry(key="spacing_mm", value=data.columns.spacing, note=note, active=False)


def _masks(data: DataLook, base: Path) -> Iterator[Entry]:
    columns, images = data.columns, data.images
    smallest = min((min(look.shape) for look in images.looks if look.shape), default=0)
    if columns and columns.mask:
        note = guessed("by its name: masks of the anatomy, not of lesions")
        yield Entry(key="anatomy", value={"column": columns.mask}, note=note)
    else:
        hull = images.modality[0] in BODIES and smallest >= LEAST_SIDE_FOR_HULL
        yield Entry(
            key="anatomy",
            value={"provider": "hull"},
            note=_HULL if hull else _NO_HULL,
            active=hull,
        )
    if columns and columns.lesion:
        yield Entry(key="lesion", value={"column": columns.lesion}, note=guessed("by the name of the column"))
    elif data.boxes:
        note = seen("boxes; take the # away if they bound lesions")
        yield Entry(key="lesion", value={"boxes": place(data.boxes, base)}, note=note, active=False)


_HULL = guessed("no masks seen; the outline of the body stands in")
_NO_HULL = decide("no masks seen, and the outline of the body says little here")


def _rates(parts: Parts) -> Iterator[Entry]:
    first = next(iter(parts.findings), "finding")
    yield Entry(
        key="prevalence",
        value={first: 0.03},
        note=decide("where the model will work; for predictive values"),
        active=False,
    )
    yield Entry(
        key="cost",
        value={first: {"miss": 20.0, "false_alarm": 1.0}},
        note=decide("how much worse a miss is than a false alarm"),
        active=False,
    )


def _metadata(data: DataLook) -> Iterator[Entry]:
    """Suggested roles, one column a line."""
    columns = data.columns
    for name, role in (columns.roles if columns else {}).items():
        values = columns.values[name] if columns else ()
        yield Entry(key=name, value=role, note=_values_note(values))
    if data.source == "dicom":
        yield from _attributes(data.images, taken=columns.values if columns else {})
    if columns and columns.others:
        counted = [f"{name} ({len(columns.values[name])} values)" for name in columns.others]
        yield Entry(note=decide(f"no role by name: {listed(counted, 20)}; nuisance | risk_factor | demographic"))
    crowded = [name for name, values in columns.values.items() if _crowded(name, values)] if columns else []
    if crowded:
        yield Entry(note=decide(f"too many values to compare, put them into bands: {listed(crowded)}"))


def _values_note(values: tuple[str, ...]) -> Note:
    return guessed(f"{len(values)} values: {listed(values, 5)}")


def _crowded(name: str, values: tuple[str, ...]) -> bool:
    return len(values) > MOST_VALUES and role_of(name) is not None


def _attributes(images: ImagesLook, *, taken: Mapping[str, object]) -> Iterator[Entry]:
    """Whitelisted attributes that differ between the files looked at."""
    for name, role in ATTRIBUTE_ROLES:
        values = tuple(sorted({dict(look.attributes).get(name, "") for look in images.looks} - {""}))
        if 2 <= len(values) <= MOST_VALUES and name not in taken:
            yield Entry(key=name, value=role, note=_values_note(values))


def _claims(parts: Parts) -> Entry:
    name = next(iter(parts.findings), "finding")
    note = decide("what the release says of itself; an audit holds it against that")
    return Entry(key=name, value={"auroc": 0.85}, note=note, active=False)

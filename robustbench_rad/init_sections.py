"""The sections of a first plan, from what was seen of data and model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_rad.init_data import DataLook
from robustbench_rad.init_data_lines import data_entries, metadata_entries
from robustbench_rad.init_images import ImagesLook
from robustbench_rad.init_text import Entry, Section, Value, decide, guessed, listed, place, seen

if TYPE_CHECKING:
    from robustbench_rad.init_head import Head
    from robustbench_rad.init_model import ModelLook

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
        Section(name="data", entries=tuple(data_entries(data, base, list(parts.findings)))),
        Section(name="data.findings", entries=tuple(findings)),
        Section(name="data.metadata", entries=tuple(metadata_entries(data))),
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


def _claims(parts: Parts) -> Entry:
    name = next(iter(parts.findings), "finding")
    note = decide("what the release says of itself; an audit holds it against that")
    return Entry(key=name, value={"auroc": 0.85}, note=note, active=False)

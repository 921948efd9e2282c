"""How the outputs of a model could become the findings of the labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robustbench_rad.init_model import ModelLook
from robustbench_rad.init_text import Entry, Note, Section, Value, decide, guessed, listed, seen

PLACEHOLDER = "decide"
_USUAL_NEED = "0.5 is used until then, and the report says so"


@dataclass(frozen=True, kw_only=True)
class Head:
    """The lines of [model] on the head.

    Attributes:
        entries: head, outputs, classes, findings.
        thresholds: The table of thresholds.
        findings: Names that the plan audits, with the label each has in the data.
    """

    entries: tuple[Entry, ...]
    thresholds: Section
    findings: Mapping[str, str]


def suggest_head(model: ModelLook, labels: Mapping[str, str], labels_note: Note | None) -> Head:
    """Suggest head and findings.

    Args:
        model: What was seen of the model.
        labels: Finding to the column that holds its label.
        labels_note: How the labels are known.
    """
    if model.outputs == 0:
        return _unknown(labels)
    names, source = _named_outputs(model, labels)
    outputs = Entry(key="outputs", value=model.kind[0], note=model.kind[1])
    if model.outputs == 1:
        return _single(outputs, labels, names, source, labels_note)
    if model.sums_to_one or _exclusive(model, labels, names):
        return _softmax(model, outputs, labels)
    return _sigmoid(model, outputs, labels, names, source)


def normal(name: str) -> str:
    """A name for comparison: "No Finding" is "no_finding"."""
    return re.sub(r"[\W_]+", "", name).lower()


def _named_outputs(model: ModelLook, labels: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Labels in the order of the outputs, where module or text name exactly as many."""
    by_name = {normal(name): name for name in labels}
    own = tuple(by_name[normal(name)] for name in model.names if normal(name) in by_name)
    if model.names and len(own) == model.outputs:
        return own, "the model's own names"
    told = model.hints.names(labels)
    return (told, f"in the order of the text of {model.hints.source}") if len(told) == model.outputs else ((), "")


def _exclusive(model: ModelLook, labels: Mapping[str, str], names: Sequence[str]) -> bool:
    return model.hints.exclusive or (not names and model.outputs != len(labels))


def _unknown(labels: Mapping[str, str]) -> Head:
    return Head(
        entries=(
            Entry(
                key="head", value=PLACEHOLDER, note=decide("sigmoid | softmax | single-logit; the model did not run")
            ),
            Entry(key="outputs", value="logits", note=decide("logits | probabilities")),
            Entry(key="findings", value=list(labels), note=decide("in the order of the outputs")),
        ),
        thresholds=thresholds(list(labels)),
        findings=labels,
    )


def _single(
    outputs: Entry, labels: Mapping[str, str], names: Sequence[str], source: str, labels_note: Note | None
) -> Head:
    head = Entry(key="head", value="single-logit", note=seen("one output"))
    chosen = list(names) or (list(labels) if len(labels) == 1 else [])
    if not chosen:
        note = decide(f"the one finding of this output; labels: {listed(list(labels), 20) or 'none seen'}")
    else:
        note = guessed(source) if names and len(labels) > 1 else (labels_note or seen("the only label"))
    findings = Entry(key="findings", value=chosen, note=note)
    entries = (head, outputs, findings)
    return Head(entries=entries, thresholds=thresholds(chosen), findings={name: labels[name] for name in chosen})


def _sigmoid(model: ModelLook, outputs: Entry, labels: Mapping[str, str], names: Sequence[str], source: str) -> Head:
    many = f"{model.outputs} outputs"
    why = f"{many}, named like labels" if names else f"{many}, as many as labels"
    note = guessed(source) if names else guessed("in the order of the labels; the model does not name its outputs")
    chosen = list(names or labels)
    entries = (
        Entry(key="head", value="sigmoid", note=guessed(why)),
        outputs,
        Entry(key="findings", value=chosen, note=note),
    )
    return Head(entries=entries, thresholds=thresholds(chosen), findings={name: labels[name] for name in chosen})


def _softmax(model: ModelLook, outputs: Entry, labels: Mapping[str, str]) -> Head:
    count = model.outputs
    if not model.sums_to_one:
        outputs = Entry(key="outputs", value="logits", note=seen("they do not sum to 1"))
    own = model.names if len(model.names) == count else ()
    classes = list(own or model.hints.classes(count))
    reason = f"{count} outputs sum to 1" if model.sums_to_one else f"{count} outputs for {len(labels)} labels"
    why = "said to be exclusive" if model.hints.exclusive and not model.sums_to_one else reason
    groups: dict[str, Value] = {name: members for name in labels if (members := _members(name, classes))}
    if not 0 < len(classes) == len(set(classes)):
        classes, groups = [], {}
    order = decide(f"names of the {count} classes, in the order of the outputs")
    source = "the model's own names" if own else f"the text of {model.hints.source}, in that order"
    example = next(iter(labels), "finding")
    grouped = decide("the classes that are each finding together, checked against the training code")
    entries = (
        Entry(key="head", value="softmax", note=guessed(why)),
        outputs,
        Entry(key="classes", value=classes, note=guessed(source) if classes else order),
        Entry(
            key="findings",
            value=groups,
            note=grouped if groups else decide(f'which classes are a finding, as {{ {example} = ["class", "class"] }}'),
        ),
    )
    table = thresholds(list(groups), _need(groups))
    return Head(entries=entries, thresholds=table, findings={name: labels[name] for name in groups})


def _members(finding: str, classes: Sequence[str]) -> list[str]:
    """Classes of a finding's name; one of them at least must stay outside."""
    found = [name for name in classes if normal(finding) and normal(finding) in normal(name)]
    return found if len(found) < len(classes) else []


def _need(groups: Mapping[str, Value]) -> str:
    grouped = any(isinstance(members, list) and len(members) > 1 for members in groups.values())
    return "a group of classes needs one" if grouped or not groups else "without one the largest class decides"


def thresholds(findings: Sequence[str], need: str = _USUAL_NEED) -> Section:
    """A table of thresholds to be filled in."""
    note = decide(f"the operating points the model is released with; {need}")
    lines = [Entry(key=name, value=0.5, active=False) for name in findings or ["finding"]]
    return Section(name="model.thresholds", entries=(Entry(note=note), *lines))

"""A world: a set of phantoms with one planted mark, put through the audits by one network that reads everything.

From the scores of its outputs the scores of any constructed model follow by addition, and are judged by the checks
themselves, as a profile sets them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robustbench_rad.cases import Case, CaseRecord
from robustbench_rad.checks import defaults
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Batch, Condition, State, Unit
from robustbench_rad.evaluation import Evaluator
from robustbench_rad.planted.defects import Defect, carried_by, with_defect
from robustbench_rad.planted.phantoms import SIDE, Phantoms
from robustbench_rad.planted.readers import OUTPUTS, PlantedReader
from robustbench_rad.profile import CheckSpec
from robustbench_rad.progress import Progress
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import entry
from robustbench_rad.scores import CLEAN, Column, Floats, Quantity, ScoreTable

CHUNK = 250
FINDING = "disease"
ATTRIBUTE = "mark"


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """Scores of all outputs of the planted reader.

    Attributes:
        scores: Of every audit, for each of :data:`~robustbench_rad.planted.readers.OUTPUTS`.
        labels: ``(N,)``.
        carried: ``(N,)`` who carries the mark.
        checks: The audits that judge.
        levels: Ladder of each condition.
    """

    scores: ScoreTable
    labels: NDArray[np.float64]
    carried: NDArray[np.bool_]
    checks: tuple[CheckSpec, ...]
    levels: Mapping[str, tuple[object, ...]]


def classifier(device: torch.device) -> Classifier:
    """The planted reader behind the face of every model."""
    module = _reader().to(device).eval()
    head = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=OUTPUTS, thresholds=(0.5,) * len(OUTPUTS))
    return Classifier(module=module, input=InputSpec(size=(SIDE, SIDE)), head=head, device=device)


@cache
def _reader() -> PlantedReader:
    return PlantedReader()


def audit_world(
    given: Phantoms,
    defect: Defect,
    association: float,
    checks: Sequence[CheckSpec],
    *,
    device: torch.device,
    model: Classifier | None = None,
) -> World:
    """Plant a mark, and put every image through every audit.

    Args:
        given: Phantoms.
        defect: The mark.
        association: P(mark | disease) = 1 - P(mark | no disease).
        checks: Audits; those without images of their own only judge.
        device: Where to compute.
        model: A trained model of the one finding :data:`FINDING` instead of the planted reader.
    """
    carried = carried_by(given, association)
    images = np.clip(with_defect(given, defect, carried), 0, 1)
    model = model or classifier(device)
    cases = _cases(given, images, carried, len(model.findings))
    conditions = tuple(entry(c.id).load().from_options(c.options) for c in checks if defaults(c.id).condition)
    evaluator = _evaluator(model, tuple(c.among(conditions) for c in conditions))
    states = {c.id: _fitted(c, evaluator, cases) for c in conditions if c.needs_fit}
    evaluator = replace(evaluator, states=states)
    chunks = [evaluator.chunk(cases[start : start + CHUNK]) for start in range(0, len(cases), CHUNK)]
    return World(
        scores=ScoreTable.join(chunks, [case.record.case_id for case in cases]),
        labels=given.labels,
        carried=carried,
        checks=tuple(checks),
        levels={condition.id: condition.levels for condition in conditions},
    )


def _cases(given: Phantoms, images: NDArray[np.float32], carried: NDArray[np.bool_], findings: int) -> list[Case]:
    return [
        Case(
            record=CaseRecord(
                case_id=f"p{row:05}",
                patient_id=f"p{row:05}",
                reference=f"p{row:05}",
                files=(Path(f"p{row:05}"),),
                labels=(float(given.labels[row]),) * findings,
                metadata={ATTRIBUTE: _value(carried[row])},
            ),
            image=torch.from_numpy(images[row])[None],
            unit=Unit.SIGNAL,
            stored_bits=16,
            anatomy=torch.from_numpy(given.anatomy[row])[None],
        )
        for row in range(len(images))
    ]


def _value(carries: bool | np.bool_) -> str:
    return "with" if carries else "without"


def _evaluator(model: Classifier, conditions: tuple[Condition, ...]) -> Evaluator:
    return Evaluator(
        classifier=model,
        conditions=conditions,
        states={},
        modality="DX",
        seed=0,
        batch_size=CHUNK,
        query=CountingQuery(model, rows=CHUNK),
        progress=Progress(),
    )


def _fitted(condition: Condition, evaluator: Evaluator, cases: Sequence[Case]) -> State | None:
    state = condition.fit(evaluator.classifier, _batches(condition, evaluator, cases))
    return state and {name: tensor.to(evaluator.classifier.device) for name, tensor in state.items()}


def _batches(condition: Condition, evaluator: Evaluator, cases: Sequence[Case]) -> Iterator[Batch]:
    for start in range(0, len(cases), CHUNK):
        yield from evaluator.batches(condition.works_in, cases[start : start + CHUNK])


def context(world: World, scores: ScoreTable, *, seed: int = 0) -> JudgeContext:
    """What the checks look at: one finding, and the mark as a declared nuisance column."""
    return JudgeContext(
        scores=scores,
        findings=(FINDING,),
        labels=world.labels[:, None],
        patients=np.arange(len(world.labels)),
        metadata={ATTRIBUTE: [_value(carries) for carries in world.carried]},
        roles={ATTRIBUTE: "nuisance"},
        thresholds={FINDING: 0.5},
        levels=dict(world.levels),  # type: ignore[arg-type]  # ladders of conditions
        checks=world.checks,
        seed=seed,
    )


def constructed(world: World, evidence: str, shortcut: str = "", strength: float = 0.0) -> ScoreTable:
    """Scores of the model ``evidence / SD + strength * detector``, at the threshold that is best on these cases.

    Args:
        world: Scores of all outputs.
        evidence: Which output it reads of the disease.
        shortcut: Name of the defect whose detector it adds.
        strength: b, in SD of the evidence.
    """
    clean = world.scores.clean(evidence).astype(np.float64)
    scale = float(clean.std())
    found = {
        Column(condition=key.condition, level=key.level, finding=FINDING): _sum(world, key, scale, shortcut, strength)
        for key in world.scores.columns
        if key.finding == evidence
    }
    threshold = _best_threshold(world.labels, found[Column(condition=CLEAN, level="", finding=FINDING)])
    quantities = {
        _of_finding(key): values for key, values in world.scores.quantities.items() if key.finding in ("", evidence)
    }
    return replace(
        world.scores,
        columns={key: (values - threshold).astype(np.float32) for key, values in found.items()},
        quantities=quantities,
    )


def _sum(world: World, key: Column, scale: float, shortcut: str, strength: float) -> NDArray[np.float64]:
    values = world.scores.columns[key].astype(np.float64) / scale
    if strength:
        values = values + strength * world.scores.columns[replace(key, finding=shortcut)].astype(np.float64)
    return values


def _of_finding(key: Quantity) -> Quantity:
    return replace(key, finding=FINDING) if key.finding else key


def _best_threshold(labels: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """The score above which sensitivity + specificity is largest (Youden 1950)."""
    order = np.argsort(scores)
    sorted_labels = labels[order]
    missed = np.cumsum(sorted_labels) / max(1.0, sorted_labels.sum())
    cleared = np.cumsum(1 - sorted_labels) / max(1.0, (1 - sorted_labels).sum())
    best = int(np.argmax(cleared - missed))
    following = min(best + 1, len(scores) - 1)
    return float((scores[order[best]] + scores[order[following]]) / 2)


def permuted(world: World, scores: ScoreTable, seed: int) -> ScoreTable:
    """The same scores with the cases shuffled: nothing is left of what the model knew."""
    order = np.random.default_rng(seed).permutation(len(world.labels))
    return replace(scores, columns={key: values[order] for key, values in scores.columns.items()})


def constant(scores: ScoreTable) -> ScoreTable:
    """A model that always says the same."""
    return replace(scores, columns={key: np.where(np.isnan(v), v, np.float32(0.1)) for key, v in _items(scores)})


def _items(scores: ScoreTable) -> Iterator[tuple[Column, Floats]]:
    yield from scores.columns.items()

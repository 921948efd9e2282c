"""Pictures for the report: every level beside the original, with scores and difference; only when the plan allows images.

Two cases are shown of a condition: one chosen by hash, which nothing but chance has picked, and the one whose score moves
most. A case whose file says BurnedInAnnotation = YES is never shown, neither as itself nor inside the image of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad import gallery_means, gallery_pixels
from robustbench_rad.conditions import SHOWS_BURNED_IN, Condition, Space
from robustbench_rad.errors import RobustbenchRadError
from robustbench_rad.gallery_pixels import Strip, Tile
from robustbench_rad.gallery_scores import CaseScores, Move
from robustbench_rad.loader import load_in_order
from robustbench_rad.registry import entry
from robustbench_rad.result import Domain, PanelLine, Picture
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts._insertion import PLACEBO, Paired, object_of
from robustbench_rad.shortcuts.background_swap import DONOR, DONOR_LABEL

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.audit.prepared import Prepared
    from robustbench_rad.cases import Case, CaseTable
    from robustbench_rad.conditions import Batch, Variant
    from robustbench_rad.evaluation import Evaluator
    from robustbench_rad.scores import ScoreTable

TRIED = 64  # cases that are looked at for one without burned-in text
ALTERED = (Domain.ACQUISITION_SHIFT, Domain.SHORTCUT)
CONTEXT = ("shape-only", "own-mean")  # levels that are shown beside the judged ones and choose no case
CHOSEN = "A case chosen by chance"


def pictures(prepared: Prepared, evaluator: Evaluator, scores: ScoreTable) -> list[Picture]:
    """Strips of every condition that alters images, for two cases, and mean images per value of a nuisance column."""
    shelf = _Shelf(table=prepared.table)
    thresholds = prepared.classifier.thresholds.tolist()
    told = CaseScores(scores=scores, thresholds=dict(zip(prepared.classifier.findings, thresholds, strict=True)))
    chosen = shelf.first(_by_hash(prepared))
    showable = [condition for condition in prepared.conditions if not _shows_burned_in(condition, evaluator)]
    strips = [
        strip
        for condition in showable
        for strip in _strips(condition, chosen, shelf, told, evaluator)
        if _domain(condition) in ALTERED
    ]
    counts = {column: Counter(prepared.table.metadata(column)) for column in prepared.plan.data.metadata}
    strips += gallery_means.strips(showable, evaluator.states, counts)
    return gallery_pixels.encoded(strips)


def _domain(condition: Condition) -> Domain:
    return Domain(entry(condition.id).domain)


def _by_hash(prepared: Prepared) -> list[int]:
    """Rows of the positive cases, or of all where there is none, in an order that only chance has made."""
    table, seed = prepared.table, prepared.plan.seed
    positive = [i for i, record in enumerate(table.records) if 1.0 in record.labels] or list(range(len(table.records)))
    return sorted(positive, key=lambda i: derive_seed(seed, "gallery", table.records[i].case_id))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shelf:
    """Cases by row; which of them may be shown is looked up once."""

    table: CaseTable
    hidden: set[int] = field(default_factory=set)
    shown: dict[int, Case] = field(default_factory=dict)

    def first(self, rows: Iterable[int]) -> int | None:
        """The first of these rows whose case is a single image without burned-in annotation; None among many tried."""
        for tried, row in enumerate(rows):
            if tried == TRIED:
                return None
            if self._may_be_shown(row):
                return row
        return None

    def _may_be_shown(self, row: int) -> bool:
        if row in self.shown or row in self.hidden:
            return row in self.shown
        (case,) = load_in_order(self.table, [row], workers=0)
        if case.burned_in or case.image.ndim != 3:
            self.hidden.add(row)
            return False
        self.shown[row] = case
        return True


def _shows_burned_in(condition: Condition, evaluator: Evaluator) -> bool:
    """Whether what the condition learned may bring another case's annotation into the picture."""
    state = evaluator.states.get(condition.id) or {}
    return SHOWS_BURNED_IN in state and bool(state[SHOWS_BURNED_IN])


def _strips(
    condition: Condition, chosen: int | None, shelf: _Shelf, told: CaseScores, evaluator: Evaluator
) -> Iterator[Strip]:
    """The case chosen by hash, then the one that moves most; one strip where they are the same."""
    if _domain(condition) not in ALTERED:
        return
    moves = {move.row: move for move in told.moves(condition.id, _deciding(condition))}
    farthest = shelf.first(moves)
    for row in dict.fromkeys(row for row in (chosen, farthest) if row is not None):
        names = [CHOSEN] if row == chosen else []
        move = moves[row] if row == farthest else None
        strip = _strip(condition, row, _Words(names=names, move=move, told=told), shelf, evaluator)
        if strip is not None:
            yield strip


def _deciding(condition: Condition) -> list[str]:
    """Levels whose change of the score says how far a case moves."""
    names = [level.name for level in condition.levels]
    return [name for name in names if not name.endswith(PLACEBO) and name not in CONTEXT]


@dataclass(frozen=True, kw_only=True)
class _Words:
    """Why a case is shown, and where its scores are found."""

    names: list[str]
    move: Move | None
    told: CaseScores

    def caption(self, condition: Condition, case: Case, scale: float) -> str:
        """One paragraph."""
        findings = self.told.findings
        labels = [name for name, label in zip(findings, case.record.labels, strict=True) if label == 1.0]
        why = list(self.names)
        if self.move is not None:
            who = "also the one whose score moves most" if why else "The case whose score moves most"
            change = self.told.after(condition.id, self.move.level, self.move.finding, self.move.row)
            flips = ", the call flips" if change.flips else ""
            why.append(f"{who} ({self.move.level}: {change.name} {change.text}{flips})")
        said = f"{', '.join(why)}. Labelled: {', '.join(labels) or 'none of the findings'}."
        return f"{said} Below each image its difference from the original, black to white: ±{scale:.2g} of the range."


def _strip(condition: Condition, row: int, words: _Words, shelf: _Shelf, evaluator: Evaluator) -> Strip | None:
    """One case: the original and every level that has a meaning for it; None where none has."""
    case, told = shelf.shown[row], words.told
    try:
        shown = _planes(condition, case, row, told, evaluator)
    except RobustbenchRadError:  # not for images of this kind: the check says so
        return None
    if not shown:
        return None
    (display,) = evaluator.batches(Space.DISPLAY, [case])
    original = display.images[0, 0]
    findings = told.written(condition.id, list(shown), row)
    before = tuple(told.before(finding, row) for finding in findings)
    scale = gallery_pixels.largest_difference(list(shown.values()), original)
    tiles = [Tile(name="original", image=gallery_pixels.grey(original), lines=before)]
    for name, plane in shown.items():
        donor = _donor(condition, name, row, told, evaluator)
        tiles += [] if donor is None else [donor]
        tile = Tile(
            name=name,
            image=gallery_pixels.grey(plane),
            difference=gallery_pixels.difference(plane, original, scale),
            lines=tuple(told.after(condition.id, name, finding, row) for finding in findings),
            group=_group(condition, name, donor),
        )
        tiles.append(tile)
    caption = words.caption(condition, case, scale)
    return Strip(check=condition.id, domain=_domain(condition), caption=caption, tiles=(*tiles,))


def _group(condition: Condition, name: str, donor: Tile | None) -> str:
    """What stands together: an object and its placebo, a donor and the image that it gave its surroundings to."""
    if donor is not None:
        return donor.group
    return object_of(name) if isinstance(condition, Paired) else ""


def _donor(condition: Condition, level: str, row: int, told: CaseScores, evaluator: Evaluator) -> Tile | None:
    """Image of the case whose surroundings a level shows; None where there is none."""
    state = evaluator.states.get(condition.id) or {}
    number = float(told.scores.measured(condition.id, DONOR, level)[row])
    if "donors" not in state or not 0 <= number < len(state["donors"]):
        return None
    labels = {name: told.scores.measured(condition.id, DONOR_LABEL, level, name)[row] for name in told.findings}
    labelled = ", ".join(name for name, label in labels.items() if label == 1.0) or "none of the findings"
    image = gallery_pixels.grey(state["donors"][int(number)][0].float())
    return Tile(
        name=f"{level}, its own image", image=image, lines=(PanelLine(text=f"Labelled: {labelled}"),), group=level
    )


def _planes(condition: Condition, case: Case, row: int, told: CaseScores, evaluator: Evaluator) -> dict[str, Tensor]:
    """Images of the levels as the model is shown them, by name."""
    (batch,) = evaluator.batches(condition.works_in, [case])
    clean = [[float(told.scores.clean(finding)[row]) for finding in told.findings]]
    batch = replace(batch, clean_margins=torch.tensor(clean, device=batch.device))
    shown: dict[str, Tensor] = {}
    for variant in evaluator.applied(condition, batch).variants:
        plane = _plane(condition, variant, batch, evaluator)
        if plane is not None:
            shown[str(variant.level.name)] = plane
    return shown


def _plane(condition: Condition, variant: Variant, batch: Batch, evaluator: Evaluator) -> Tensor | None:
    if variant.images is None or (variant.applicable is not None and not bool(variant.applicable[0])):
        return None
    return evaluator.displayed(condition, variant.images, batch)[0, 0]

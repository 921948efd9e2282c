"""How much of the scanner's mark on the score goes when images are rendered as if from another scanner.

The score tells the scanners apart among cases of the same label at A (½: not at all). When the other scanners' images are
rendered as of the target it tells them at A'. The share explained is ``1 - (A' - ½) / (A - ½)``: 1 where sharpness, noise and
grey levels are all that the score sees of the scanner, 0 where it sees something else (letters, collimation, other patients).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.acquisition_levels import what_the_shift_did, without_effect
from robustbench_rad.checks.context import CheckOutcome, Floats, JudgeContext
from robustbench_rad.checks.informational import Cell, cells
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Table
from robustbench_rad.shifts._scanner_names import IN_ORDER, USUAL_COLUMN, by_count, scanner_column
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.clusters import cluster_influence, count_patients
from robustbench_rad.statistics.estimate import Estimate, covariance, student_quantile
from robustbench_rad.statistics.means import mean
from robustbench_rad.statistics.ratios import ratio

Mask = NDArray[np.bool_]
_ENDS = ("", " lower", " upper")


def judge(context: JudgeContext, check: CheckSpec) -> CheckOutcome:
    """Show what the rendering did, and how much of the score's dependence on the scanner it explains."""
    marks = [
        Mark(context=context, check=check.id, finding=finding, level=level, column=column_of(context, check))
        for finding in context.findings
        for level in context.levels.get(check.id, ())
    ]
    assessable = [mark for mark in marks if mark.rendered.any()]
    tables = what_the_shift_did(context, check)
    if assessable:
        tables = [_explained(check, assessable), _change(check, assessable), *tables]
    return CheckOutcome(
        judged=[], tables=tables, notices=[*_not_assessable(context, check, marks), *without_effect(context, check)]
    )


def column_of(context: JudgeContext, check: CheckSpec) -> str:
    """The metadata column that names the scanner."""
    return scanner_column(str(check.options.get("column", USUAL_COLUMN)), context.roles)


def _not_assessable(context: JudgeContext, check: CheckSpec, marks: list[Mark]) -> list[str]:
    """Say of every target that nothing could be rendered as of it, and why."""
    empty = dict.fromkeys(mark.level for mark in marks if not mark.rendered.any())
    return [
        f"{check.id}: not assessable for {level}: {context.scores.reasons.get((check.id, level.name), 'no case to render')}"
        for level in empty
    ]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The score of one finding, with the cases of other scanners rendered as of one target.

    Attributes:
        context: Scores and metadata.
        check: Id of the check.
        finding: Which finding.
        level: Which target.
        column: Metadata column that names the scanner.
    """

    context: JudgeContext
    check: str
    finding: str
    level: Level
    column: str

    @cached_property
    def target(self) -> str:
        """Name of the target scanner; "" when there is none of that rank."""
        if self.level.unit != IN_ORDER:
            return self.level.name
        names = by_count(Counter(self.context.metadata.get(self.column, ())))
        return names[int(self.level.value) - 1] if self.level.value <= len(names) else ""

    @cached_property
    def altered(self) -> Floats:
        """Margins of the rendered images; NaN for the others."""
        return self.context.margins(self.check, self.level.name, self.finding)

    @property
    def rendered(self) -> Mask:
        """``(N,)`` cases of other scanners that were rendered."""
        return ~np.isnan(self.altered)

    @cached_property
    def of_target(self) -> Mask:
        """``(N,)`` cases of the target."""
        names = self.context.metadata.get(self.column, ())
        return np.array([name == self.target for name in names], dtype=np.bool_) & ~self.rendered

    @property
    def name(self) -> str:
        """The target in words."""
        return self.target if self.level.unit != IN_ORDER else f"{self.target} ({self.level})"

    @property
    def degrees(self) -> int:
        """Degrees of freedom of an interval over the patients that take part."""
        return count_patients(self.context.patients[self.rendered | self.of_target]) - 1

    def told(self, margins: Floats) -> Estimate:
        """AUROC of the score for the target against the rendered cases, among cases of the same label."""
        takes_part = self.rendered | self.of_target
        if np.isinf(margins[takes_part]).any():
            raise StatisticsError("the model gave NaN or infinity on some case")
        attribute = np.where(takes_part, self.of_target.astype(np.float64), np.nan)
        return conditional_auc(
            self.context.label(self.finding),
            margins,
            attribute,
            self.context.patients,
            self.context.n_patients,
            confidence=self.context.confidence,
        )

    @property
    def clean(self) -> Floats:
        """Margins of the images as they are."""
        return self.context.clean(self.finding)

    @property
    def after(self) -> Floats:
        """Margins with the other scanners' images rendered."""
        return np.where(self.rendered, self.altered, self.clean)

    def explained(self) -> Estimate:
        """Share of the telling that the rendering takes away.

        Raises:
            StatisticsError: The score does not tell the scanners apart, so there is nothing to explain.
        """
        before, after = (self.told(margins).affine(offset=-0.5) for margins in (self.clean, self.after))
        return _share(after, before, self.degrees).affine(scale=-1.0, offset=1.0)

    def observed(self) -> Estimate:
        """Mean score of the target minus that of the others, at the others' mix of labels."""
        label, margins = self.context.label(self.finding), self.clean
        deviations, value = np.zeros(len(label)), 0.0
        others = self.rendered & ~np.isnan(label)
        for given in (0.0, 1.0):
            own, theirs = others & (label == given), self.of_target & (label == given)
            if not own.any():
                continue
            if not theirs.any():
                raise StatisticsError("a label that the target's cases lack: the scanners cannot be compared within it")
            weight = own.sum() / others.sum()
            value += weight * float(margins[theirs].mean() - margins[own].mean())
            deviations[theirs] += weight * (margins[theirs] - margins[theirs].mean()) / theirs.sum()
            deviations[own] -= weight * (margins[own] - margins[own].mean()) / own.sum()
        influence = cluster_influence(deviations, self.context.patients, self.context.n_patients)
        half = student_quantile(self.context.confidence, self.degrees) * float(
            np.sqrt(covariance(influence, influence))
        )
        return Estimate(
            value=value,
            lower=value - half,
            upper=value + half,
            confidence=self.context.confidence,
            method="Student, clustered",
            influence=influence,
        )

    def changed(self) -> Estimate:
        """Mean change of the score of the rendered cases, paired."""
        known = self.rendered & ~np.isnan(self.context.label(self.finding))
        change = np.where(known, self.altered - self.clean, np.nan)
        return mean(change, self.context.patients, self.context.n_patients, confidence=self.context.confidence)

    def reproduced(self) -> Estimate:
        """Share of the observed difference that the rendering brings about."""
        return _share(self.changed(), self.observed(), self.degrees)


def _share(part: Estimate, whole: Estimate, degrees: int) -> Estimate:
    try:
        return ratio(part, whole, degrees=degrees)
    except StatisticsError as error:
        raise StatisticsError("the score does not tell these scanners apart: there is nothing to explain") from error


def _explained(check: CheckSpec, marks: list[Mark]) -> Table:
    quantities: dict[str, Callable[[Mark], Estimate]] = {
        "AUROC of the scanner": lambda mark: mark.told(mark.clean),
        "after transfer": lambda mark: mark.told(mark.after),
        "share explained": Mark.explained,
    }
    return _table(
        check,
        marks,
        quantities,
        title="How much of telling the scanner the transfer explains",
        note="AUROC of the score for the scanner among cases of the same label (0.5: it does not tell it), as the images are, "
        "and with those of other scanners rendered as of this one. Share explained: how much of its distance from 0.5 goes; "
        "below 0 or above 1 where the rendering goes the other way or too far. Shown, not judged.",
    )


def _change(check: CheckSpec, marks: list[Mark]) -> Table:
    quantities: dict[str, Callable[[Mark], Estimate]] = {
        "observed difference": Mark.observed,
        "change under transfer": Mark.changed,
        "share": Mark.reproduced,
    }
    return _table(
        check,
        marks,
        quantities,
        title="Change of the score under transfer beside the difference between the scanners",
        note="In margins (log-odds where there is a threshold), within labels. Observed: mean of the scanner's own cases minus "
        "that of the others, at the others' mix of labels; other patients are part of it. Change: of the others when rendered.",
    )


def _table(
    check: CheckSpec, marks: list[Mark], quantities: dict[str, Callable[[Mark], Estimate]], *, title: str, note: str
) -> Table:
    rows: list[list[Cell]] = []
    for mark in marks:
        row: list[Cell] = [mark.finding, mark.name, int(mark.rendered.sum()), int(mark.of_target.sum())]
        notes = []
        for make in quantities.values():
            *numbers, why = cells(lambda make=make, mark=mark: make(mark))  # type: ignore[misc]
            row += numbers
            notes.append(str(why))
        rows.append([*row, "; ".join(dict.fromkeys(filter(None, notes)))])
    columns = ["finding", "rendered as of", "cases rendered", "cases of it"]
    columns += [f"{name}{end}" for name in quantities for end in _ENDS]
    return Table(check=check.id, domain=check.domain, title=title, columns=[*columns, "note"], rows=rows, note=note)

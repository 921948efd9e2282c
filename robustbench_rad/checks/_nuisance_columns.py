"""How far a score tells the nuisance columns among cases of the same label: the short form of scanner dependence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks import defaults
from robustbench_rad.checks.attributes import NUISANCE, Attribute, attributes
from robustbench_rad.checks.context import Floats, JudgeContext
from robustbench_rad.checks.metrics import usable_labels
from robustbench_rad.checks.within_attribute import chosen
from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.association import conditional_auc
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.rank_correlation import AUC_SCALE, conditional_spearman
from robustbench_rad.statistics.within_attribute import inflation

DEPENDENCE, WITHIN = "shortcut.scanner-dependence", "shortcut.within-attribute"


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One question to a score: does it tell this value of a nuisance column, or the trend of a continuous one?

    Attributes:
        attribute: The column.
        value: Against all others; "continuous" for a trend.
    """

    attribute: Attribute
    value: str

    @property
    def subgroup(self) -> str:
        """Column and value as criteria name them."""
        column = self.attribute.column
        return column if self.attribute.kind == "continuous" else f"{column}={self.value}"

    def all_values(self) -> list[Asked]:
        """This question and, of a column of two values, that for the other."""
        if self.attribute.kind == "continuous":
            return [self]
        return [Asked(attribute=self.attribute, value=value) for value in self.attribute.values]

    def carries(self) -> NDArray[np.bool_]:
        """Cases with the value; of a continuous column those that have any."""
        if self.attribute.kind == "continuous":
            return self.attribute.known()
        return np.asarray(self.attribute.indicator(self.value) == 1, dtype=np.bool_)

    def told(self, context: JudgeContext, finding: str, margins: Floats, *, confidence: float) -> Estimate:
        """Label-conditional AUROC of the margins for the value; of a trend, on the same scale.

        Args:
            context: Labels, patients and columns.
            finding: Which finding.
            margins: ``(N,)`` NaN where a case does not take part.
            confidence: Of the interval.

        Raises:
            StatisticsError: No label in which both values occur.
        """
        label = usable_labels(context, finding, margins)
        patients, n_patients = context.patients, context.n_patients
        if self.attribute.kind == "continuous":
            numbers = self.attribute.numbers
            found = conditional_spearman(label, margins, numbers, patients, n_patients, confidence=confidence)
            return found.affine(scale=AUC_SCALE, offset=0.5)
        values = self.attribute.indicator(self.value)
        return conditional_auc(label, margins, values, patients, n_patients, confidence=confidence)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A nuisance column, its value (or "continuous"), and the label-conditional AUROC of a score for it."""

    column: str
    value: str
    estimate: Estimate | None
    reason: str = ""


def asked(context: JudgeContext) -> list[Asked]:
    """Every value of every nuisance column that can be assessed; of two values the first says all."""
    return [one for column in _nuisance(context) if column.assessable for one in _questions(column)]


def _questions(column: Attribute) -> list[Asked]:
    values = column.values[:1] if len(column.values) == 2 else column.values
    names = ("continuous",) if column.kind == "continuous" else values
    return [Asked(attribute=column, value=name) for name in names]


def told(context: JudgeContext, finding: str, margins: Floats, confidence: float) -> list[Told]:
    """Label-conditional AUROC of the margins for every value of every nuisance column; why there is none.

    Args:
        context: Labels, patients and columns.
        finding: Which finding.
        margins: ``(N,)`` NaN where a case does not take part.
        confidence: Of each interval.
    """
    return [row for column in _nuisance(context) for row in _column(context, finding, margins, column, confidence)]


def _nuisance(context: JudgeContext) -> list[Attribute]:
    return [column for column in attributes(context) if column.role == NUISANCE]


def _column(context: JudgeContext, finding: str, margins: Floats, column: Attribute, confidence: float) -> list[Told]:
    if not column.assessable:
        return [Told(column=column.column, value="", estimate=None, reason=column.reason)]
    rows = []
    for one in _questions(column):
        try:
            found = one.told(context, finding, margins, confidence=confidence)
            rows.append(Told(column=column.column, value=one.value, estimate=found))
        except StatisticsError as error:
            rows.append(Told(column=column.column, value=one.value, estimate=None, reason=error.message))
    return rows


def depended_on(context: JudgeContext, finding: str) -> list[str]:
    """Nuisance columns that the clean score depends on beyond the tolerance, within labels or in its AUROC.

    The intervals hold together by Bonferroni; the tolerances are those of the profile's own checks.
    """
    columns = _nuisance(context)
    rows = told(context, finding, context.clean(finding), context.confidence)
    alpha = (1 - context.confidence) / max(1, len(rows) + len(columns))
    margin = _tolerance(context, DEPENDENCE)
    rows = told(context, finding, context.clean(finding), 1 - alpha)
    found = [row.column for row in rows if row.estimate and row.estimate.folded(centre=0.5).lower > margin]
    for column in columns:
        try:
            cells = chosen(context, finding, column.grouped())
            owed = inflation(
                cells.label, cells.margins, cells.codes, context.patients, context.n_patients, confidence=1 - alpha
            )
        except StatisticsError:
            continue
        if owed.lower > _tolerance(context, WITHIN):
            found.append(column.column)
    return list(dict.fromkeys(found))


def _tolerance(context: JudgeContext, check: str) -> float:
    declared = next((spec for spec in context.checks if spec.id == check), None)
    if declared is not None:
        return declared.delta("")
    default = defaults(check).tolerance
    assert isinstance(default, float)
    return default

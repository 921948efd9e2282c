"""What a judgement may look at, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from robustbench_rad.checks.rankings import Rankings
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import Judged
from robustbench_rad.errors import StatisticsError
from robustbench_rad.plan import ClaimSection
from robustbench_rad.profile import CheckSpec
from robustbench_rad.result import Curve, Domain, PreflightItem, Table
from robustbench_rad.scores import ScoreTable
from robustbench_rad.statistics.auc import Ranking

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class JudgeContext:
    """Scores, labels and metadata of a finished pass.

    Attributes:
        scores: Margins and measurements in case order.
        findings: K names.
        labels: ``(N, K)``: 1, 0 or NaN for unknown.
        patients: ``(N,)`` patient numbers from 0.
        metadata: Column → N values as text, "" where missing.
        roles: Column → nuisance, risk_factor or demographic.
        claims: What the release says of itself.
        readers: Finding → metadata columns that hold the labels of single readers.
        uncertain: What -1 means in them: unknown, positive or negative.
        legitimate: Finding → where else than in the anatomy its evidence may lie, as the plan says it.
        prevalence: Finding → share of positives where the model will be used.
        costs: Finding → ``miss`` and ``false_alarm``.
        thresholds: Finding → operating point as a probability; a finding without one decides by the largest class, and
            its margin is no log-odds.
        minimum_auroc: AUROC a finding must reach when nothing is claimed for it.
        levels: Ladder of each condition that was run.
        reach: Attack → the space it works in and the pixels it may touch, where that is not all of the display plane.
        range_in: The display range in HU or grey levels, with the unit; None where neither is known.
        preflight: What was looked at before the run.
        seed: For resampling.
        confidence: Of every reported interval.
        joint: Confidence of every judged interval at which those of the whole audit hold together; None: the comparisons
            of a check are held together by themselves.
        checks: All checks of the profile, for one that judges others.
        rankings: What was ranked already.
    """

    scores: ScoreTable
    findings: tuple[str, ...]
    labels: Floats
    patients: NDArray[np.int64]
    metadata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, ClaimSection] = field(default_factory=dict)
    readers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    uncertain: str = "unknown"
    legitimate: Mapping[str, str] = field(default_factory=dict)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Mapping[Literal["miss", "false_alarm"], float]] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    minimum_auroc: float = 0.7
    levels: Mapping[str, tuple[Level, ...]] = field(default_factory=dict)
    reach: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    range_in: tuple[float, str] | None = None
    preflight: Sequence[PreflightItem] = ()
    seed: int = 0
    confidence: float = 0.95
    joint: float | None = None
    checks: tuple[CheckSpec, ...] = ()
    rankings: Rankings = field(default_factory=Rankings, repr=False, compare=False)

    @property
    def n_patients(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1 if len(self.patients) else 0

    def label(self, finding: str) -> Floats:
        """Labels of one finding."""
        return self.labels[:, self.findings.index(finding)]

    def clean(self, finding: str) -> Floats:
        """Margins of the unaltered images."""
        return self.scores.clean(finding).astype(np.float64)

    def clean_log_odds(self, finding: str) -> Floats:
        """Log-odds of the unaltered images.

        Raises:
            StatisticsError: The margin is no log-odds, for the largest class decides.
        """
        if finding not in self.thresholds:
            raise StatisticsError("no threshold is declared, so the largest class decides and there is no probability")
        return self.clean(finding) + float(logit(self.thresholds[finding]))

    def margins(self, condition: str, level: str, finding: str) -> Floats:
        """Margins under a condition: NaN where it has no meaning, infinite where the model gave no number."""
        return self.scores.margins(condition, level, finding).astype(np.float64)

    def altered(self, condition: str, level: str, finding: str) -> Floats:
        """Margins under a condition that applied to at least one case.

        Raises:
            StatisticsError: It applied to none; the text says why.
        """
        margins = self.margins(condition, level, finding)
        if np.isnan(margins).all():
            raise StatisticsError(self.scores.reasons.get((condition, level), "it had no meaning for any case"))
        return margins

    def measured(self, condition: str, name: str, level: str = "", finding: str = "") -> Floats:
        """A measurement; NaN where there is none."""
        return self.scores.measured(condition, name, level, finding).astype(np.float64)

    def vectors(self, condition: str, name: str) -> Floats:
        """Several numbers of each case, ``(N, F)``; ``(N, 0)`` where there are none."""
        return self.scores.vector(condition, name).astype(np.float64)

    def rank(self, labels: Floats, scores: Floats) -> Ranking:
        """Ranking of scores of all cases; what was ranked before is not ranked again.

        Raises:
            StatisticsError: One class, or a score that is not a number.
        """
        return self.rankings.of(labels, scores, self.patients, self.n_patients)

    def counts(self, finding: str, cases: NDArray[np.bool_] | None = None) -> dict[str, int]:
        """Positives, negatives and patients with a known label, of all cases or of ``(N,)`` some."""
        label = self.label(finding) if cases is None else np.where(cases, self.label(finding), np.nan)
        known = ~np.isnan(label)
        return {
            "positives": int((label == 1).sum()),
            "negatives": int((label == 0).sum()),
            "patients": len(np.unique(self.patients[known])),
        }


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """What a check found: criteria with their joint influence, and what the report shows beside them.

    Attributes:
        judged: Criteria.
        curves: Robustness curves.
        tables: Tables.
        notices: Sentences.
        doubts: (domain, finding) → why no criterion of them may pass, whatever check it is of.
    """

    judged: list[Judged]
    curves: list[Curve] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    doubts: Mapping[tuple[Domain, str], str] = field(default_factory=dict)

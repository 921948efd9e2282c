"""Is this model worse than the last one? Every check of two finished runs, compared case by case, never score by score.

Harm is the loss of a metric from the baseline to this run, at every level that both measured. On the same cases the
comparison is paired (clustered DeLong; paired differences at the operating point), which is worth about five times the
cases; on other cases it is not, and says so. All intervals hold together (max-T). Margins: 0.02 AUROC, 0.03 sensitivity and
specificity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.comparisons import interval, level_record, try_interval
from robustbench_rad.checks.masked_anatomy import FILLS, without_dust
from robustbench_rad.checks.metrics import METRICS, NAMES
from robustbench_rad.conditions import Level
from robustbench_rad.criteria import judge
from robustbench_rad.errors import StatisticsError
from robustbench_rad.judging import FinishedRun
from robustbench_rad.registry import catalogue
from robustbench_rad.regression_loss import BEFORE, NOW, Sample, available, discordant, loss, metric
from robustbench_rad.result import Domain, Interval, Regression, RegressionRow, RegressionVerdict, Verdict
from robustbench_rad.scores import CLEAN
from robustbench_rad.seeds import derive_seed
from robustbench_rad.statistics.estimate import Estimate
from robustbench_rad.statistics.multiplicity import joint_confidence

MARGINS: Mapping[str, float] = {"auroc": 0.02, "sensitivity": 0.03, "specificity": 0.03}
CONFIDENCE = 0.95
CLEAN_CHECK = "clean.performance"
COMPARED = (Domain.ADVERSARIAL, Domain.ACQUISITION_SHIFT)
RISES = "shortcut.masked-anatomy"  # here an AUROC that rises is the harm
WORDS = {
    Verdict.PASS: RegressionVerdict.NOT_REGRESSED,
    Verdict.FAIL: RegressionVerdict.REGRESSED,
    Verdict.INCONCLUSIVE: RegressionVerdict.CANNOT_TELL,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Two finished runs, set against each other.

    Attributes:
        current: The run that is judged.
        baseline: The run it must not fall behind.
        order: Row of the baseline for each case of this run; None: not paired.
        pairing: Why paired, or why not, in words.
    """

    current: FinishedRun
    baseline: FinishedRun
    order: NDArray[np.int64] | None
    pairing: str

    @classmethod
    def of(cls, current: FinishedRun, baseline: FinishedRun) -> Self:
        """Set the cases of two runs against each other by their hashes."""
        here, there = current.record, baseline.record
        rows = {case: row for row, case in enumerate(there.cases)}
        order = None
        if here.data.digest != there.data.digest:
            pairing = "unpaired: the baseline was made on other cases, so the intervals are wider"
        elif set(rows) != set(here.cases):
            pairing = "unpaired, and wider: the same cases, but the runs do not lie side by side and hash them apart"
        else:
            pairing = "paired: both runs are on the same cases"
            order = np.array([rows[case] for case in here.cases], dtype=np.int64)
        return cls(current=current, baseline=baseline, order=order, pairing=pairing)

    @property
    def findings(self) -> list[str]:
        """Findings of both."""
        there = self.baseline.record.plan.model.names
        return [name for name in self.current.record.plan.model.names if name in there]


@dataclass(frozen=True, kw_only=True, eq=False)
class Contrast:
    """One metric of one finding at one level, in both runs.

    Attributes:
        check: Check id.
        domain: Its family.
        finding: Which finding.
        metric: ``auroc``, ``sensitivity`` or ``specificity``.
        level: Which level; None for clean images.
        sample: Margins of both runs, or why there are none.
        doubt: Why it may not be believed that nothing was lost, or "".
    """

    check: str
    domain: Domain
    finding: str
    metric: str
    level: Level | None
    sample: Sample | str
    doubt: str = ""

    @property
    def group(self) -> tuple[str, str, str]:
        """The row it belongs to."""
        return self.check, self.finding, self.metric


def compare(current: FinishedRun, baseline: FinishedRun) -> Regression:
    """Compare a run with its baseline.

    Args:
        current: The run that is judged.
        baseline: The run it must not fall behind.
    """
    runs = Runs.of(current, baseline)
    contrasts, not_compared = _contrasts(runs)
    rows = _rows(contrasts, derive_seed(current.record.plan.seed, "regression") % 2**32)
    return Regression(
        baseline=baseline.folder.resolve().name,
        measurement_sha256=baseline.record.provenance.measurement_sha256,
        weights_sha256=baseline.record.model.weights_sha256,
        finished=baseline.record.provenance.finished,
        paired=runs.order is not None,
        pairing=runs.pairing,
        verdict=_overall(row.verdict for row in rows),
        rows=rows,
        not_compared=not_compared,
    )


def _contrasts(runs: Runs) -> tuple[list[Contrast], list[str]]:
    """Everything that can be compared, with what cannot and why."""
    here, there = runs.current.record, runs.baseline.record
    apart = sorted({*here.plan.model.names} ^ {*there.plan.model.names})
    not_compared = [f"{name}: a finding of one of the two runs only" for name in apart]
    made = [
        Contrast(
            check=CLEAN_CHECK,
            domain=Domain.CLEAN,
            finding=finding,
            metric=name,
            level=None,
            sample=_sample(runs, finding, CLEAN, ("", "")),
        )
        for finding in runs.findings
        for name in METRICS
    ]
    for id in sorted({*here.measured, *there.measured}):
        known = catalogue().get(id)
        if id not in there.measured:
            not_compared.append(f"{id}: not measured in the baseline")
        elif known is None or not (known.domain in COMPARED or id == RISES):
            not_compared.append(f"{id}: what it measures is not the loss of a metric")
        else:
            made += [
                contrast for finding in runs.findings for contrast in _of_condition(runs, id, known.domain, finding)
            ]
    return made, not_compared


def _of_condition(runs: Runs, id: str, domain: str, finding: str) -> list[Contrast]:
    """Every metric at every level of the baseline."""
    before, now = runs.baseline.record.measured[id], runs.current.record.measured.get(id)
    different = "this run did not measure it" if now is None else now.difference(before, here="now", there="baseline")
    made = []
    for level in before.levels:
        if id == RISES and level.name not in FILLS:
            continue  # references of the check, no harm
        twin = now.level_like(level) if now else None
        sample: Sample | str = different or "this run did not measure this level"
        if twin is not None and not different:
            sample = _sample(runs, finding, id, (twin.name, level.name))
        made += [
            Contrast(
                check=id,
                domain=Domain(domain),
                finding=finding,
                metric=name,
                level=level,
                sample=sample,
                doubt=_doubt(runs.current, id, twin or level, finding),
            )
            for name in _metrics(runs, id, domain, (twin or level, level))
        ]
    return made


def _metrics(runs: Runs, id: str, domain: str, levels: tuple[Level, Level]) -> tuple[str, ...]:
    """Which metrics mean something: only a search that went on after the flip ranks the cases."""
    if id == RISES:
        return ("auroc",)
    pairs = zip((runs.current, runs.baseline), levels, strict=True)
    ranks = domain != Domain.ADVERSARIAL or all((id, level.name) in run.scores.full_search for run, level in pairs)
    return METRICS if ranks else tuple(name for name in METRICS if name != "auroc")


def _doubt(run: FinishedRun, id: str, level: Level, finding: str) -> str:
    """Where gradients are masked an attack finds less, which is no gain of the model."""
    zero = [run.scores.measured(id, "zero_gradient", name, finding) for name in (level.name, "")]
    affected = int((np.stack(zero) > 0).any(axis=0).sum())
    return (
        f"masked gradients on {affected} case(s) of this run, so the attack could not search there" if affected else ""
    )


def _sample(runs: Runs, finding: str, condition: str, levels: tuple[str, str]) -> Sample:
    labels, margins, patients = [], [], []
    for run, level in zip((runs.current, runs.baseline), levels, strict=True):
        record = run.record
        found = run.scores.margins(condition, level, finding).astype(np.float64)
        if condition == RISES:
            found = without_dust(found, run.scores.clean(finding).astype(np.float64))
        labels.append(record.labels[:, record.plan.model.names.index(finding)])
        margins.append(found)
        patients.append(record.patients)
    if runs.order is not None:
        labels[1], margins[1], patients[1] = labels[1][runs.order], margins[1][runs.order], patients[0]
    else:
        patients[1] = patients[1] + int(patients[0].max()) + 1
    return Sample(
        labels=(labels[0], labels[1]),
        margins=(margins[0], margins[1]),
        patients=(patients[0], patients[1]),
        n_patients=int(patients[1].max()) + 1,
        paired=runs.order is not None,
    )


def _rows(contrasts: Sequence[Contrast], seed: int) -> list[RegressionRow]:
    """One row per check, finding and metric; the worst level decides; all intervals hold together."""
    first = [_attempt(contrast, CONFIDENCE) for contrast in contrasts]
    influences = [e.influence for e in first if isinstance(e, Estimate) and e.influence is not None]
    joint = joint_confidence(np.stack(influences), CONFIDENCE, seed=seed) if len(influences) > 1 else CONFIDENCE
    groups: dict[tuple[str, str, str], list[tuple[Contrast, Estimate | str]]] = {}
    for contrast, attempt in zip(contrasts, first, strict=True):
        estimate = _attempt(contrast, joint) if isinstance(attempt, Estimate) else attempt
        groups.setdefault(contrast.group, []).append((contrast, estimate))
    return [_row(members) for members in groups.values()]


def _attempt(contrast: Contrast, confidence: float) -> Estimate | str:
    if isinstance(contrast.sample, str):
        return contrast.sample
    try:
        estimate = loss(contrast.sample, contrast.metric, confidence)
    except StatisticsError as error:
        return error.message
    return estimate.affine(scale=-1.0) if contrast.check == RISES else estimate


def _row(members: Sequence[tuple[Contrast, Estimate | str]]) -> RegressionRow:
    margin = MARGINS[members[0][0].metric]
    known = [(contrast, e) for contrast, e in members if isinstance(e, Estimate)]
    missing = "; ".join(f"{f'at {c.level}: ' if c.level else ''}{e}" for c, e in members if isinstance(e, str))
    if not known:
        return _base(members[0][0], margin, reason=missing)
    contrast, estimate = _deciding(known, margin)
    assert isinstance(contrast.sample, Sample)  # it has an estimate
    positives, counted = available(contrast.sample, contrast.metric)
    judged = judge(estimate, margin, positives=positives, counted=counted)
    verdict, reason = judged.verdict, judged.reason
    doubt = missing or contrast.doubt
    if verdict is Verdict.PASS and doubt:
        verdict, reason = Verdict.INCONCLUSIVE, doubt
    reasons = [reason, discordant(contrast.sample, contrast.metric)]
    return _base(contrast, margin, reason="; ".join(filter(None, reasons))).model_copy(
        update={
            "baseline": _shown(contrast.sample, BEFORE, contrast.metric),
            "current": _shown(contrast.sample, NOW, contrast.metric),
            "loss": interval(estimate),
            "verdict": WORDS[verdict],
        }
    )


def _deciding(known: Sequence[tuple[Contrast, Estimate]], margin: float) -> tuple[Contrast, Estimate]:
    """The most certain loss, else the largest upper bound; of three fills of the anatomy two must agree."""
    if known[0][0].check == RISES:
        return sorted(known, key=lambda member: member[1].lower)[len(known) // 2]
    lost = [member for member in known if member[1].lower > margin]
    if lost:
        return max(lost, key=lambda member: member[1].lower)
    return max(known, key=lambda member: member[1].upper)


def _base(contrast: Contrast, margin: float, *, reason: str) -> RegressionRow:
    none = Interval(estimate=None, lower=None, upper=None)
    rises = contrast.check == RISES
    name = NAMES[contrast.metric]
    return RegressionRow(
        check=contrast.check,
        domain=contrast.domain,
        finding=contrast.finding,
        quantity=f"{name} without anatomy, rise" if rises else f"{name} loss",
        level=level_record(contrast.level) if contrast.level else None,
        baseline=none,
        current=none,
        loss=none,
        margin=margin,
        verdict=RegressionVerdict.CANNOT_TELL,
        reason=reason,
    )


def _shown(sample: Sample, run: int, name: str) -> Interval:
    """The metric of one run on its own cases, for the reader; the comparison does not subtract it."""
    return try_interval(partial(metric, sample, run, name, CONFIDENCE))


def _overall(verdicts: Iterable[RegressionVerdict]) -> RegressionVerdict:
    """Regressed before cannot tell before not regressed; nothing at all cannot tell."""
    seen = set(verdicts)
    for verdict in (RegressionVerdict.REGRESSED, RegressionVerdict.CANNOT_TELL, RegressionVerdict.NOT_REGRESSED):
        if verdict in seen:
            return verdict
    return RegressionVerdict.CANNOT_TELL

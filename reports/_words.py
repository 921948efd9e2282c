"""The words that all reports share: verdicts, domains, and the sentences of the first screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from robustbench_rad.reports._format import amount, harm, interval, number, percent, plain, points
from robustbench_rad.result import (
    AuditResult,
    Criterion,
    Domain,
    DomainScore,
    FindingSummary,
    Interval,
    LevelRecord,
    Regression,
    RegressionRow,
    RegressionVerdict,
    Score,
    Verdict,
)


@dataclass(frozen=True, kw_only=True)
class VerdictWord:
    """A verdict as sign and word; never colour alone."""

    sign: str
    word: str
    order: int


VERDICTS = {
    Verdict.FAIL: VerdictWord(sign="✕", word="Fail", order=0),
    Verdict.INCONCLUSIVE: VerdictWord(sign="?", word="Inconclusive", order=1),
    Verdict.PASS: VerdictWord(sign="✓", word="Pass", order=2),
    Verdict.INFORMATIONAL: VerdictWord(sign="i", word="Not judged", order=3),
}

STATUSES = {
    "ok": {"sign": "✓", "word": "OK", "tone": "pass"},
    "warning": {"sign": "!", "word": "Warning", "tone": "inconclusive"},
    "error": {"sign": "✕", "word": "Error", "tone": "fail"},
}

DOMAINS = {
    Domain.CLEAN: (
        "Clean performance",
        "How well the model does on the images as they came, before anything is altered.",
    ),
    Domain.ADVERSARIAL: (
        "Adversarial",
        "A search for the faintest change of an image that turns a correct call: to hide a finding that is there, or "
        "to create one that is not.",
    ),
    Domain.ACQUISITION_SHIFT: (
        "Acquisition shift",
        "The same patients as another dose, kernel, detector or export chain would have shown them, simulated in "
        "physical units.",
    ),
    Domain.SHORTCUT: (
        "Shortcut",
        "Whether the score rests on the anatomy, or on a marker, a border or the scanner that happens to go with the "
        "label.",
    ),
    Domain.SALIENCY: (
        "Saliency",
        "Whether the maps that are shown as explanations depend on the model and on the image at all. Saliency can "
        "lower a score, never raise it.",
    ),
    Domain.SUBGROUP: ("Subgroups", "The same questions for each scanner, site, sex, age band and view."),
}

ROLES = {
    "internal": "These cases come from where the model was developed. What is found here is an upper bound of what to "
    "expect elsewhere.",
    "external": "These cases come from a place the model was not developed at.",
    "temporal": "These cases come from the place of development, from a later time.",
}


def title_of(domain: Domain) -> str:
    """Name of a domain as a heading."""
    return DOMAINS[domain][0]


def worst_first(criteria: Iterable[Criterion]) -> list[Criterion]:
    """Failed, inconclusive, passed, not judged; critical ones first; fewest points first."""
    return sorted(criteria, key=_badness)


def _badness(criterion: Criterion) -> tuple[int, bool, float, float, str]:
    earned = 0.0 if criterion.points is None else criterion.points
    upper, tolerance = criterion.harm.upper, criterion.tolerance
    # In tolerances, so that harms of different quantities can be ranked; what has no bound comes first.
    excess = float("inf") if upper is None else (upper - (tolerance or 0.0)) / (tolerance or 1.0)
    return VERDICTS[criterion.verdict].order, not criterion.critical, earned, -excess, criterion.id


def open_criteria(result: AuditResult) -> list[Criterion]:
    """What stands between this result and a pass, worst first."""
    return [c for c in worst_first(result.criteria) if c.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE)]


def headline(result: AuditResult) -> str:
    """One sentence of counts under the verdict."""
    tally = Counter(criterion.verdict for criterion in result.criteria)
    judged = len(result.criteria) - tally[Verdict.INFORMATIONAL]
    if not judged:
        return "Nothing was judged, so nothing was shown to be safe."
    failed = [criterion for criterion in result.criteria if criterion.verdict is Verdict.FAIL]
    critical = sum(criterion.critical for criterion in failed)
    parts = [f"{len(failed)} failed" + (f" ({critical} critical)" if critical else "")]
    parts.append(f"{tally[Verdict.INCONCLUSIVE]} could not be decided")
    parts.append(f"{tally[Verdict.PASS]} passed")
    return f"Of {amount(judged, 'criterion', 'criteria')}, {', '.join(parts)}."


def score_words(result: AuditResult) -> str:
    """The score with its interval, or why there is none."""
    score = result.score
    if score.total is None:
        return f"No score: {plain(score.why_none) or 'the reason was not recorded'}"
    if score.lower is None or score.upper is None:
        return f"{points(score.total)} of 100"
    return f"{points(score.total)} of 100 [{points(score.lower)}, {points(score.upper)}]"


def evidence_words(score: Score) -> str:
    """How much could be decided, and what stands beside it."""
    said = f"{percent(score.evidence_coverage)} of the profile's checks could be decided"
    return f"{said}; {added}" if (added := added_words(score)) else said


def added_words(score: Score) -> str:
    """What checks that the plan adds to the profile are to the score; "" without any."""
    added = sum(domain.added for domain in score.domains)
    if not added:
        return ""
    return f"{amount(added, 'check')} added by the plan (+): no part of this share, but able to lower points"


def decided_words(score: DomainScore) -> str:
    """Checks of a domain that the data could decide: of the profile, and of those that the plan adds."""
    said = f"{score.judged} of {score.checks}"
    return f"{said}\n+{score.added_judged} of {score.added}" if score.added else said


def claims_words(result: AuditResult) -> tuple[Verdict, str]:
    """Verdict and words on what the release says of itself."""
    gate = result.score.utility_gate
    if not any(claims_of(finding) for finding in result.findings):
        words = {Verdict.PASS: "None declared; minimum reached", Verdict.FAIL: "None declared; minimum not reached"}
        return gate, words.get(gate, "None declared")
    words = {Verdict.PASS: "Met", Verdict.FAIL: "Not met", Verdict.INCONCLUSIVE: "Not shown to be met"}
    return gate, words.get(gate, "Not judged")


def claims_of(finding: FindingSummary) -> list[tuple[str, float, Interval]]:
    """Each claim of a finding: metric, claimed value, what was measured."""
    claims = [
        ("AUROC", finding.claim_auroc, finding.auroc),
        ("sensitivity", finding.claim_sensitivity, finding.sensitivity),
        ("specificity", finding.claim_specificity, finding.specificity),
    ]
    return [(metric, claim, measured) for metric, claim, measured in claims if claim is not None]


def claim_verdict(claim: float, measured: Interval) -> Verdict:
    """A claim is met when the whole interval lies at or above it, and missed when the whole interval lies below."""
    if measured.lower is not None and measured.lower >= claim:
        return Verdict.PASS
    if measured.upper is not None and measured.upper < claim:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE


def claim_words(finding: FindingSummary) -> str:
    """The claims of a finding in words.

    ``AUROC 0.85: met``; an en dash when nothing is claimed.
    """
    words = {Verdict.PASS: "met", Verdict.FAIL: "not met", Verdict.INCONCLUSIVE: "not shown"}
    claims = claims_of(finding)
    return ", ".join(f"{m} {number(c)}: {words[claim_verdict(c, i)]}" for m, c, i in claims) or "–"


def level_words(level: LevelRecord | None) -> str:
    """A level by its name, with its physical value where the name does not say it.

    >>> level_words(LevelRecord(name="ε 2/255", value=2 / 255, unit="display"))
    'ε 2/255 (0.00784 display)'
    >>> level_words(LevelRecord(name="dose 0.25", value=0.25, unit="× nominal"))
    'dose 0.25 × nominal'
    >>> level_words(LevelRecord(name="lungs masked", value=1, unit=""))
    'lungs masked'
    """
    if level is None:
        return "–"
    name, unit, value = plain(level.name, 60), plain(level.unit, 30), f"{level.value:.3g}"
    if name.endswith(value):
        return f"{name} {unit}".rstrip()
    if name and (not unit or value in name):
        return name
    physical = f"{value} {unit}".replace("-", "−").rstrip()
    return f"{name} ({physical})" if name else physical


def physical(level: LevelRecord) -> str:
    """What a level's name leaves out: its physical value, the shortest way there is.

    >>> physical(LevelRecord(name="2/255", value=2 / 255, unit="of range = 2 grey levels"))
    '2 grey levels'
    >>> physical(LevelRecord(name="0.25", value=0.25, unit="of the exposure"))
    'of the exposure'
    >>> physical(LevelRecord(name="1/4", value=0.25, unit="of the envelope"))
    '0.25 of the envelope'
    """
    name, unit, value = plain(level.name, 60), plain(level.unit, 30), f"{level.value:.3g}"
    _, equals, same = unit.partition(" = ")
    if equals:
        return same
    return unit if value in name or not unit else f"{value} {unit}".replace("-", "−")


def subject(criterion: Criterion) -> str:
    """Finding and subgroup of a criterion."""
    parts = (plain(criterion.finding, 60), plain(criterion.subgroup, 60))
    return ", ".join(part for part in parts if part) or "all findings"


def measured(criterion: Criterion) -> str:
    """The harm beside its tolerance: ``0.021 [0.003, 0.045], δ 0.020``."""
    tolerance = "" if criterion.tolerance is None else f", δ {number(criterion.tolerance, 3)}"
    return harm(criterion.harm) + tolerance


def metrics(finding: FindingSummary) -> tuple[str, str, str]:
    """AUROC, sensitivity and specificity with their intervals."""
    return interval(finding.auroc), interval(finding.sensitivity), interval(finding.specificity)


REGRESSION = {
    RegressionVerdict.REGRESSED: Verdict.FAIL,
    RegressionVerdict.CANNOT_TELL: Verdict.INCONCLUSIVE,
    RegressionVerdict.NOT_REGRESSED: Verdict.PASS,
}


def regression_words(regression: Regression) -> str:
    """One sentence: how many comparisons regressed, cannot tell, did not regress; and whether they are paired."""
    tally = Counter(row.verdict for row in regression.rows)
    counts = ", ".join(f"{tally[verdict]} {verdict}" for verdict in RegressionVerdict)
    compared = amount(len(regression.rows), "comparison")
    return f"{str(regression.verdict).capitalize()}: of {compared}, {counts}; {plain(regression.pairing, 200)}"


def regression_rows(regression: Regression) -> list[RegressionRow]:
    """Rows, regressed first, then those that cannot tell."""
    return sorted(regression.rows, key=lambda row: VERDICTS[REGRESSION[row.verdict]].order)


def loss_words(row: RegressionRow) -> str:
    """The loss beside its margin: ``0.021 [0.003, 0.045], margin 0.020``."""
    return f"{harm(row.loss)}, margin {number(row.margin, 3)}"

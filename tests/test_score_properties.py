"""Properties of the whole way from scores to the score: checks, joint intervals, points, domains, total and verdict.

Scores and labels are drawn, no model runs; every check of a small profile judges the same synthetic table.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustbench_rad.checks import defaults
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.judgement import judge_audit
from robustbench_rad.profile import CheckSpec, Profile
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import Column, ScoreTable

DOSE, FGSM, SUBGROUP, CLEAN = "shift.xr.dose", "attack.fgsm", "subgroup.performance", "clean.performance"
LEVELS = {
    DOSE: (Level(name="0.5", value=0.5, unit="of the exposure"), Level(name="0.1", value=0.1, unit="of the exposure")),
    FGSM: (Level(name="1/255", value=1 / 255, unit="of display range"),),
}
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SEEDS = st.integers(0, 10_000)
HARMS = st.floats(0, 1.5)
SIZES = st.sampled_from([30, 80, 240])


def spec(id, *, critical=False, **changes):
    default = defaults(id)

    def table(value):
        return dict(value) if isinstance(value, dict) else {"": value}

    return CheckSpec(
        id=id,
        domain=default.domain,
        options={},
        tolerance=table(default.tolerance),
        critical_harm=table(default.critical_harm),
        critical=critical,
        **changes,
    )


CHECKS = (spec(CLEAN, critical=True), spec(DOSE, critical=True), spec(FGSM), spec(SUBGROUP))


def profile(*checks):
    return Profile(name="test", version=1, sha256="", minimum_auroc=0.7, weights={}, checks=checks or CHECKS)


def audit(seed, positives, harm, attack=0.3):
    """One image per patient, two negatives per positive, two scanners; ``harm`` in SD of the score per level."""
    rng = np.random.default_rng(seed)
    label = np.repeat([1.0, 0.0, 0.0], positives)
    noise = rng.normal(size=len(label))
    clean = 2.6 * label - 1.3 + noise
    columns = {("clean", ""): clean}
    for step, level in enumerate(LEVELS[DOSE], 1):
        columns[DOSE, level.name] = clean - 0.5 * step * harm * (2 * label - 1) + 0.15 * rng.normal(size=len(label))
    columns[FGSM, "1/255"] = clean - attack * (2 * label - 1)
    return JudgeContext(
        scores=table(columns),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(len(label)),
        metadata={"scanner": [str(value) for value in rng.choice(["A", "B"], len(label))]},
        roles={"scanner": "nuisance"},
        thresholds={"f": 0.5},
        levels=LEVELS,
    )


def table(columns):
    return ScoreTable(
        cases=tuple(str(case) for case in range(len(columns["clean", ""]))),
        columns={
            Column(condition=condition, level=level, finding="f"): np.asarray(values, np.float32)
            for (condition, level), values in columns.items()
        },
        quantities={},
        full_search=frozenset(),
        reasons={},
    )


def taken(context, rows, patients):
    """The same audit with the cases of ``rows``, in that order, some perhaps several times."""
    scores = dataclasses.replace(
        context.scores,
        cases=tuple(str(case) for case in range(len(rows))),
        columns={column: values[rows] for column, values in context.scores.columns.items()},
    )
    return JudgeContext(
        scores=scores,
        findings=context.findings,
        labels=context.labels[rows],
        patients=patients,
        metadata={name: [cells[row] for row in rows] for name, cells in context.metadata.items()},
        roles=context.roles,
        thresholds=context.thresholds,
        levels=context.levels,
    )


def judged(context, *checks, errors=None):
    return judge_audit(context, profile(*checks), errors=errors or {}, partial={}, preflight=[])


def criteria(judgement):
    return {item.criterion.id: item.criterion for item in judgement.judged}


def score(judgement):
    return 0.0 if judgement.score.total is None else judgement.score.total


def domains(judgement):
    return {entry.domain: entry.points for entry in judgement.score.domains}


def test_the_table_reaches_every_check_and_every_verdict():
    """Else the properties below would hold of nothing."""
    found = [judged(audit(1, size, harm)) for size, harm in ((240, 0.0), (240, 1.0), (30, 0.2))]
    shown = {criterion.verdict for judgement in found for criterion in criteria(judgement).values()}
    assert {Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE} <= shown
    assert {criterion.check for criterion in criteria(found[0]).values()} == {check.id for check in CHECKS}
    assert all(judgement.score.total is not None for judgement in found)
    assert len({round(score(judgement)) for judgement in found}) == 3
    # One that passes as a whole, so that "a pass is 70 points" is said of something.
    assert judged(audit(1, 2000, 0.0, attack=0.0), *CHECKS[:3]).verdict is Verdict.PASS


@given(SEEDS, SIZES, HARMS)
@FEW
def test_the_order_of_cases_changes_nothing(seed, positives, harm):
    context = audit(seed, positives, harm)
    order = np.random.default_rng(seed).permutation(len(context.patients))
    first, second = judged(context), judged(taken(context, order, context.patients[order]))
    assert second.verdict is first.verdict
    assert second.score.total == pytest.approx(first.score.total, abs=1e-6)
    for id, criterion in criteria(first).items():
        other = criteria(second)[id]
        assert other.verdict is criterion.verdict
        assert (other.harm.estimate, other.harm.upper) == pytest.approx(
            (criterion.harm.estimate, criterion.harm.upper), abs=1e-9
        )


@given(SEEDS, SIZES, HARMS, st.integers(2, 4))
@FEW
def test_duplicated_images_of_each_patient_are_no_evidence(seed, positives, harm, copies):
    """The harm is the same, its interval is not narrower, no verdict is reached that was not, and no point is won."""
    context = audit(seed, positives, harm)
    rows = np.repeat(np.arange(len(context.patients)), copies)
    once, often = judged(context), judged(taken(context, rows, context.patients[rows]))
    for id, criterion in criteria(once).items():
        other = criteria(often)[id]
        if criterion.harm.lower is None:
            assert other.verdict is criterion.verdict
            continue
        assert other.harm.estimate == pytest.approx(criterion.harm.estimate, abs=1e-9)
        assert other.harm.upper - other.harm.lower >= criterion.harm.upper - criterion.harm.lower - 1e-6, id
        assert other.verdict in (criterion.verdict, Verdict.INCONCLUSIVE), id
        assert (other.points or 0) <= (criterion.points or 0) + 1e-3, id
    assert score(often) <= score(once) + 1e-3
    assert often.score.evidence_coverage <= once.score.evidence_coverage
    assert often.verdict in (once.verdict, Verdict.INCONCLUSIVE)


def test_the_same_images_as_patients_of_their_own_would_be_evidence():
    """The duplicates matter: without their patients they would narrow every interval."""
    context = audit(3, 80, 0.3)
    rows = np.repeat(np.arange(len(context.patients)), 4)
    once, wrong = judged(context), judged(taken(context, rows, np.arange(len(rows))))
    widths = [
        (criteria(wrong)[id].harm.upper - criteria(wrong)[id].harm.lower) / (c.harm.upper - c.harm.lower)
        for id, c in criteria(once).items()
        if c.check == DOSE
    ]
    assert max(widths) < 0.7


@given(SEEDS, SIZES, st.floats(0, 1.0), st.floats(0.02, 1.0))
@FEW
def test_more_harm_of_the_same_kind_never_scores_more(seed, positives, harm, more):
    """A shift that moves every case further the wrong way: the checks that see it, and the total."""
    less, worse = (judged(audit(seed, positives, amount)) for amount in (harm, harm + more))
    assert domains(worse)[Domain.ACQUISITION_SHIFT] <= domains(less)[Domain.ACQUISITION_SHIFT] + 1e-6
    assert score(worse) <= score(less) + 1e-6
    assert less.verdict is not Verdict.FAIL or worse.verdict is Verdict.FAIL


@given(SEEDS, st.sampled_from([240, 1200]), st.sampled_from([0.0, 0.05]), st.sampled_from([0.0, 0.1]))
@FEW
def test_a_pass_is_seventy_points_or_more_of_check_domain_and_whole(seed, positives, harm, attack):
    judgement = judged(audit(seed, positives, harm, attack), *CHECKS[:3])
    for criterion in criteria(judgement).values():
        if criterion.points is not None:
            assert (criterion.verdict is Verdict.PASS) == (criterion.points >= 70)
    for entry in judgement.score.domains:
        assert entry.verdict is not Verdict.PASS or entry.points >= 70
    if judgement.verdict is Verdict.PASS:
        assert judgement.score.total >= 70 - 1e-9


@given(SEEDS, SIZES, HARMS)
@FEW
def test_an_easy_check_of_the_plan_raises_neither_domain_nor_score(seed, positives, harm):
    """An attack that does nothing passes; beside the profile's own it must not help."""
    context = audit(seed, positives, harm)
    easy = spec("attack.pgd-linf", profiled=False)
    levels = {**LEVELS, easy.id: LEVELS[FGSM]}
    clean = context.scores.columns[Column(condition="clean", level="", finding="f")]
    columns = {**context.scores.columns, Column(condition=easy.id, level="1/255", finding="f"): clean}
    more = dataclasses.replace(
        context,
        scores=dataclasses.replace(context.scores, columns=columns),
        levels=levels,
        rankings=type(context.rankings)(),
    )
    without, beside = judged(context), judged(more, *CHECKS, easy)
    assert any(c.check == easy.id for c in criteria(beside).values())
    assert domains(beside)[Domain.ADVERSARIAL] <= domains(without)[Domain.ADVERSARIAL] + 1e-9
    assert score(beside) <= score(without) + 1e-9


@given(SEEDS, SIZES, st.floats(0, 0.3), st.sampled_from([DOSE, FGSM, SUBGROUP]))
@FEW
def test_a_check_that_could_not_run_never_raises_the_score_and_never_passes(seed, positives, harm, missing):
    """Left out by an error, or by the plan; a failed critical check is capped at 49 either way or scores less."""
    context = audit(seed, positives, harm)
    whole = judged(context)
    failed = judged(context, errors={missing: "out of memory"})
    left_out = judged(context, *(dataclasses.replace(check, enabled=check.id != missing) for check in CHECKS))
    for judgement in (failed, left_out):
        assert judgement.verdict is not Verdict.PASS
        assert {c.points for c in criteria(judgement).values() if c.check == missing} == {0.0}
        assert min(domains(judgement).values()) == 0
        if whole.score.cap != 49:
            assert score(judgement) <= score(whole) + 1e-9

"""The score: what it rewards, what it cannot be talked into, and what it rests on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.criteria import Judged, judge
from robustbench_rad.profile import CheckSpec, Profile
from robustbench_rad.result import Criterion, Domain, Interval, Verdict
from robustbench_rad.scoring import overall, score_audit
from robustbench_rad.statistics.estimate import Estimate

REACHED = (Verdict.PASS, "reached")
TOLERANCE, CRITICAL = 0.05, 0.15


def spec(id, domain=Domain.ADVERSARIAL, *, critical=False, profiled=True):
    return CheckSpec(
        id=id,
        domain=domain,
        options={},
        tolerance={"": TOLERANCE},
        critical_harm={"": CRITICAL},
        critical=critical,
        profiled=profiled,
    )


def profile(*checks, weights=None):
    return Profile(name="test", version=1, sha256="", minimum_auroc=0.7, weights=weights or {}, checks=checks)


def item(check, upper, *, domain=Domain.ADVERSARIAL, width=0.02, finding="nodule", verdict=None, influence=None):
    e = Estimate(value=upper - width / 2, lower=upper - width, upper=upper)
    criterion = Criterion(
        id=f"{check}/{finding}",
        check=check,
        domain=domain,
        finding=finding,
        quantity="drop",
        harm=Interval(estimate=e.value, lower=e.lower, upper=e.upper),
        tolerance=TOLERANCE,
        critical_harm=CRITICAL,
        verdict=verdict or judge(e, TOLERANCE).verdict,
        reason="",
    )
    return Judged(criterion=criterion, influence=influence)


def total(judged, checks, **options):
    return score_audit(judged, profile(*checks, **options), REACHED, seed=0, draws=20).total


def domain_points(judged, checks, domain=Domain.ADVERSARIAL):
    score = score_audit(judged, profile(*checks), REACHED, seed=0, draws=20)
    return next(d for d in score.domains if d.domain is domain).points


def test_no_harm_is_a_hundred_and_harm_at_the_tolerance_is_seventy():
    assert total([item("a", 0.0)], [spec("a")]) == pytest.approx(100)
    assert total([item("a", 0.05)], [spec("a")]) == pytest.approx(70)


def test_a_check_is_its_worst_finding():
    judged = [item("a", 0.0), item("a", 0.10, finding="mass"), item("a", 0.02, finding="effusion")]
    score = score_audit(judged, profile(spec("a")), REACHED, seed=0)
    assert score.total == pytest.approx(35)
    assert score.costliest[0].finding == "mass"


def test_a_domain_is_the_mean_of_its_worst_quarter():
    checks = [spec(name) for name in "abcdefgh"]
    uppers = [0.15, 0.10, 0.05, 0, 0, 0, 0, 0]
    assert domain_points([item(c.id, u) for c, u in zip(checks, uppers, strict=True)], checks) == pytest.approx(17.5)
    assert domain_points(
        [item(c.id, u) for c, u in zip(checks[:5], uppers, strict=False)], checks[:5]
    ) == pytest.approx(17.5)
    assert domain_points(
        [item(c.id, u) for c, u in zip(checks[1:5], uppers[1:], strict=False)], checks[1:5]
    ) == pytest.approx(35)


def test_a_check_that_the_plan_adds_is_counted_beside_those_of_the_profile():
    """It lowers the points and the verdict, so it must be seen; it is no evidence for what the profile asks."""
    ids = ["a", "b", "extra", "open"]
    checks = [*(spec(id) for id in ids[:2]), *(spec(id, profiled=False) for id in ids[2:])]
    made = [item("a", 0.0), item("b", 0.0), item("extra", 0.5), item("open", 0.3, width=0.6)]
    found = score_audit(made, profile(*checks), REACHED, seed=0, draws=20)
    (domain,) = found.domains
    assert (domain.judged, domain.checks) == (2, 2)
    assert (domain.added_judged, domain.added) == (1, 2)
    assert (domain.verdict, domain.points) == (Verdict.FAIL, 0.0)
    assert found.evidence_coverage == 1.0


def test_a_missing_check_counts_nothing_and_is_no_evidence():
    score = score_audit([item("a", 0.0)], profile(spec("a"), spec("b")), REACHED, seed=0)
    assert score.domains[0].points == 0
    assert score.total == pytest.approx(5)  # the floor of a domain
    assert score.evidence_coverage == 0.5
    assert (score.domains[0].checks, score.domains[0].judged) == (2, 1)
    assert score.domains[0].verdict is Verdict.INCONCLUSIVE
    assert score.costliest[0].check == "b"


def test_total_is_the_weighted_geometric_mean():
    checks = [spec("a"), spec("b", Domain.SHORTCUT)]
    judged = [item("a", 0.05), item("b", 0.10, domain=Domain.SHORTCUT)]
    weights = {Domain.ADVERSARIAL: 3.0, Domain.SHORTCUT: 1.0}
    assert total(judged, checks, weights=weights) == pytest.approx(70**0.75 * 35**0.25)
    assert total(judged, checks, weights={Domain.SHORTCUT: 0.0}) == pytest.approx(70)


def test_a_critical_fail_caps_at_49_and_an_open_or_missing_one_at_69():
    safe = [spec("b", Domain.SHORTCUT), spec("c", Domain.CLEAN)]
    judged = [item("b", 0.0, domain=Domain.SHORTCUT), item("c", 0.0, domain=Domain.CLEAN)]
    for upper, width, cap in ((0.07, 0.01, 49), (0.06, 0.05, 69), (0.05, 0.05, None)):
        score = score_audit(
            [*judged, item("a", upper, width=width)], profile(spec("a", critical=True), *safe), REACHED, seed=0
        )
        assert score.cap == cap
        assert score.total == cap or (cap is None and score.total > 85)
        assert ("a" in score.cap_reason) == (cap is not None)
    missing = score_audit(judged, profile(spec("a", Domain.CLEAN, critical=True), *safe), REACHED, seed=0)
    assert missing.cap == 69


@pytest.mark.parametrize("gate", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_without_the_declared_performance_there_is_no_score(gate):
    judged = [item("a", 0.0)]
    score = score_audit(judged, profile(spec("a")), (gate, "AUROC 0.5"), seed=0)
    assert (score.total, score.lower, score.upper) == (None, None, None)
    assert "AUROC 0.5" in score.why_none
    assert score.domains[0].points == 100
    assert overall(score, judged, profile(spec("a"))) is gate


def test_nothing_to_judge_is_no_score_and_no_pass():
    score = score_audit([], profile(), REACHED, seed=0)
    assert score.total is None
    assert overall(score, [], profile()) is Verdict.INCONCLUSIVE


def test_a_judged_check_that_only_shows_something_is_missing():
    """Else a plan could take a check out of the denominator by leaving it nothing to judge."""
    shown = [item("a", 0.0, verdict=Verdict.INFORMATIONAL)]
    score = score_audit(shown, profile(spec("a")), REACHED, seed=0)
    assert score.total < 6
    assert score.evidence_coverage == 0
    assert overall(score, shown, profile(spec("a"))) is Verdict.INCONCLUSIVE


def test_informational_criteria_never_count():
    judged = [item("a", 0.02)]
    shown = [*judged, item("a", 0.9, verdict=Verdict.INFORMATIONAL), item("z", 0.9, verdict=Verdict.INFORMATIONAL)]
    assert score_audit(shown, profile(spec("a")), REACHED, seed=0) == score_audit(
        judged, profile(spec("a")), REACHED, seed=0
    )


def test_a_doubted_pass_is_worth_nothing():
    doubted = item("a", 0.0, verdict=Verdict.INCONCLUSIVE, influence=np.ones(5))
    score = score_audit([doubted], profile(spec("a")), REACHED, seed=0)
    assert (score.total, score.lower, score.upper) == pytest.approx((5, 5, 5))
    assert score.evidence_coverage == 0


@pytest.mark.parametrize(("shortcut", "taken"), [(0.0, 0), (0.2, 10)])
def test_saliency_takes_at_most_ten_and_only_beside_a_failed_shortcut(shortcut, taken):
    checks = [spec("a"), spec("m", Domain.SHORTCUT), spec("s", Domain.SALIENCY, critical=True)]
    judged = [item("a", 0.0), item("m", shortcut, domain=Domain.SHORTCUT)]
    without = total(judged, checks[:2])
    with_map = total([*judged, item("s", 0.3, domain=Domain.SALIENCY)], checks)
    good_map = total([*judged, item("s", 0.0, domain=Domain.SALIENCY)], checks)
    assert with_map == pytest.approx(without - taken)
    assert good_map == pytest.approx(without)


def test_saliency_alone_does_not_decide():
    checks = profile(spec("a"), spec("s", Domain.SALIENCY))
    judged = [item("a", 0.0), item("s", 0.3, domain=Domain.SALIENCY)]
    assert overall(score_audit(judged, checks, REACHED, seed=0), judged, checks) is Verdict.PASS


@pytest.mark.parametrize(
    ("uppers", "verdict"),
    [
        ({"a": 0.0, "b": 0.02}, Verdict.PASS),
        ({"a": 0.0, "b": 0.06}, Verdict.INCONCLUSIVE),
        ({"a": 0.3, "b": 0.06}, Verdict.FAIL),
        ({"a": 0.0}, Verdict.INCONCLUSIVE),
    ],
)
def test_overall_verdict(uppers, verdict):
    checks = profile(spec("a"), spec("b"))
    judged = [item(id, upper) for id, upper in uppers.items()]
    assert overall(score_audit(judged, checks, REACHED, seed=0), judged, checks) is verdict


def test_costs_add_up_to_what_is_missing():
    checks = [spec("a"), spec("b", Domain.SHORTCUT), spec("c", Domain.CLEAN)]
    judged = [item("a", 0.10), item("b", 0.05, domain=Domain.SHORTCUT), item("c", 0.0, domain=Domain.CLEAN)]
    score = score_audit(judged, profile(*checks), REACHED, seed=0)
    assert [cost.check for cost in score.costliest] == ["a", "b"]
    assert sum(cost.points_lost for cost in score.costliest) == pytest.approx(100 - score.total)
    ratio = score.costliest[0].points_lost / score.costliest[1].points_lost
    assert ratio == pytest.approx(np.log(100 / 35) / np.log(100 / 70))


def test_interval_follows_the_influence():
    rng = np.random.default_rng(0)
    influence = rng.normal(size=200)
    influence *= 0.005 / np.sqrt(200 / 199 * (influence**2).sum())
    score = score_audit([item("a", 0.025, influence=influence)], profile(spec("a")), REACHED, seed=0, draws=4000)
    # 30 points over 0.05 of harm: a standard error of 0.005 is 3 points.
    assert (score.lower, score.upper) == pytest.approx((85 - 1.96 * 3, 85 + 1.96 * 3), abs=0.5)


def test_interval_is_joint():
    # Two domains whose harms move against each other hold the geometric mean still; together they move it most.
    up = np.random.default_rng(1).normal(size=100)
    up *= 0.005 / np.sqrt(100 / 99 * (up**2).sum())
    checks = profile(spec("a"), spec("b", Domain.SHORTCUT))

    def width(second):
        judged = [item("a", 0.025, influence=up), item("b", 0.025, domain=Domain.SHORTCUT, influence=second)]
        score = score_audit(judged, checks, REACHED, seed=0)
        return score.upper - score.lower

    assert width(-up) < 0.1 * width(up)


def test_same_seed_same_score():
    judged = [item("a", 0.03, influence=np.random.default_rng(0).normal(size=30) / 300)]
    first, second = (score_audit(judged, profile(spec("a")), REACHED, seed=5) for _ in range(2))
    assert first == second
    assert first.lower < first.total < first.upper


UPPERS = st.lists(st.floats(-0.1, 0.3), min_size=4, max_size=4)
CHECKS = (
    spec("a", Domain.ADVERSARIAL, critical=True),
    spec("b", Domain.ADVERSARIAL),
    spec("c", Domain.SHORTCUT),
    spec("s", Domain.SALIENCY),
)


def audit(uppers):
    return [item(c.id, u, domain=c.domain, width=0.03) for c, u in zip(CHECKS, uppers, strict=True)]


@given(UPPERS, st.integers(0, 3), st.floats(0, 0.2))
@settings(max_examples=60, deadline=None)
def test_more_harm_never_scores_more(uppers, place, more):
    worse = [u + more * (index == place) for index, u in enumerate(uppers)]
    assert total(audit(worse), CHECKS) <= total(audit(uppers), CHECKS) + 1e-9


@given(UPPERS, st.sampled_from([Domain.ADVERSARIAL, Domain.CLEAN, Domain.SHORTCUT]), st.floats(-0.1, 0.3))
@settings(max_examples=60, deadline=None)
def test_a_check_beyond_the_profile_never_raises_the_score(uppers, domain, upper):
    extra = spec("x", domain, profiled=False)
    richer = total([*audit(uppers), item("x", upper, domain=domain)], (*CHECKS, extra))
    unlisted = total([*audit(uppers), item("x", upper, domain=domain)], CHECKS)
    assert richer <= total(audit(uppers), CHECKS) + 1e-9
    assert unlisted == pytest.approx(richer)


@given(UPPERS, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_order_of_criteria_changes_nothing(uppers, random):
    judged = audit(uppers)
    random.shuffle(judged)
    shuffled, ordered = (score_audit(j, profile(*CHECKS), REACHED, seed=0, draws=20) for j in (judged, audit(uppers)))
    assert shuffled == ordered


@given(UPPERS)
@settings(max_examples=30, deadline=None)
def test_leaving_a_check_out_never_raises_the_score(uppers):
    # Without caps and saliency: a hidden critical fail trades the cap of 49 for that of 69, and is then no pass either.
    checks = [spec(c.id, c.domain) for c in CHECKS[:3]]
    judged = audit(uppers)[:3]
    for place in range(3):
        rest = [entry for index, entry in enumerate(judged) if index != place]
        assert total(rest, checks) <= total(judged, checks) + 1e-9
        assert overall(score_audit(rest, profile(*checks), REACHED, seed=0), rest, profile(*checks)) is not Verdict.PASS


def test_leaving_a_critical_check_out_does_not_lift_the_cap():
    from dataclasses import replace as with_

    critical = with_(spec(CHECKS[0].id, CHECKS[0].domain), critical=True, enabled=False)
    score = score_audit(audit([0.0] * len(CHECKS))[1:], profile(critical, *CHECKS[1:]), REACHED, seed=0)
    assert score.total <= 49
    assert "left out by the plan" in score.cap_reason


@given(UPPERS)
@settings(max_examples=30, deadline=None)
def test_a_passing_audit_scores_seventy_or_more(uppers):
    score = score_audit(audit(uppers), profile(*CHECKS), REACHED, seed=0, draws=20)
    if overall(score, audit(uppers), profile(*CHECKS)) is Verdict.PASS:
        assert score.total >= 70 - 1e-9
        assert score.lower <= score.total <= score.upper

"""Comparisons held together: by check or by audit, exact ones with their share, each counted by the cases it used."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_rad.checks import acquisition_shift, adversarial
from robustbench_rad.checks.comparisons import Comparison, Prepared, judge_jointly
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.errors import StatisticsError
from robustbench_rad.judgement import judge_audit
from robustbench_rad.profile import Profile, check_spec
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import Column, ScoreTable
from robustbench_rad.statistics import auc as auc_module
from robustbench_rad.statistics.estimate import Estimate, normal_quantile

N = 400
LABEL = np.tile([1.0, 0.0], N // 2)
DOSE = "shift.xr.dose"
CHECKS = ("clean.performance", DOSE, "attack.fgsm")
LEVELS = tuple(Level(name=f"dose {value}", value=value, unit="") for value in (0.5, 0.2, 0.1))


def noise(seed):
    return np.random.default_rng(seed).normal(size=N)


def context(altered=None, **more) -> JudgeContext:
    """One finding; a clean column, three doses and an attack."""
    clean = 3 * (LABEL - 0.5) + noise(0)
    ladder = [clean + 0.3 * noise(seed) for seed in (1, 2, 3)] if altered is None else altered(clean)
    margins = {("clean", ""): clean, ("attack.fgsm", "1/255"): clean - 0.4 * np.sign(clean)}
    margins |= {(DOSE, level.name): column for level, column in zip(LEVELS, ladder, strict=True)}
    columns = {Column(condition=c, level=l, finding="f"): v.astype(np.float32) for (c, l), v in margins.items()}  # noqa: E741
    values = {
        "scores": ScoreTable(cases=tuple(map(str, range(N))), columns=columns, quantities={}),
        "findings": ("f",),
        "labels": LABEL[:, None],
        "patients": np.arange(N),
        "levels": {DOSE: LEVELS, "attack.fgsm": (Level(name="1/255", value=1 / 255, unit=""),)},
    }
    return JudgeContext(**{**values, **more})


def profile(*ids, multiplicity="audit") -> Profile:
    return Profile(
        name="mine",
        version=1,
        sha256="0",
        minimum_auroc=0.7,
        weights=dict.fromkeys(Domain, 1.0),
        checks=tuple(check_spec(id, {}) for id in ids),
        multiplicity=multiplicity,
    )


def audit(*ids, multiplicity="audit", made=None):
    made = made or context()
    judgement = judge_audit(made, profile(*ids, multiplicity=multiplicity), errors={}, partial={}, preflight=[])
    return {item.criterion.id: item.criterion for item in judgement.judged}, judgement.notices


def fixed(value, influence, count=1):
    """Comparisons of as many findings whose interval is the normal one of their influence."""

    def estimate(row, confidence):
        half = normal_quantile(confidence) * float(np.sqrt(row @ row))
        return Estimate(value=value, lower=value - half, upper=value + half, confidence=confidence, influence=row)

    rows = np.atleast_2d(influence)
    return [
        Comparison(finding="", quantity=f"harm {i}", harm="auroc", estimate=lambda c, row=row: estimate(row, c))
        for i, row in enumerate(np.repeat(rows, count, axis=0))
    ]


def test_intervals_of_an_audit_contain_those_of_its_checks():
    apart, none = audit(*CHECKS, multiplicity="check")
    together, notices = audit(*CHECKS)
    assert apart.keys() == together.keys()
    for id, wide in together.items():
        narrow = apart[id].harm
        assert wide.harm.lower <= narrow.lower <= narrow.upper <= wide.harm.upper, id
        assert wide.harm.estimate == narrow.estimate
    assert len({criterion.harm.confidence for criterion in together.values()}) == 1
    assert together[next(iter(together))].harm.confidence > max(c.harm.confidence for c in apart.values())
    assert any("judges all checks together" in notice for notice in notices)
    assert not any("judges all checks together" in notice for notice in none)


def test_an_audit_of_one_check_is_that_check():
    assert audit(DOSE)[0] == audit(DOSE, multiplicity="check")[0]


def test_the_order_of_the_checks_changes_nothing():
    forward, backward = audit(*CHECKS)[0], audit(*reversed(CHECKS))[0]
    assert forward == backward


def test_an_audit_is_the_same_when_judged_again():
    assert audit(*CHECKS) == audit(*CHECKS)


@pytest.mark.parametrize(
    ("influence", "count", "quantile"),
    [(np.eye(N)[:20] / 20, 1, 3.02), (np.eye(N)[:1] / 20, 20, 1.96)],
    ids=["independent: Sidak", "identical: none"],
)
def test_known_answers_of_twenty_comparisons(influence, count, quantile):
    judged = judge_jointly(context(), check_spec(DOSE, {}), fixed(0.0, influence, count))
    assert len(judged) == 20
    assert normal_quantile(judged[0].criterion.harm.confidence) == pytest.approx(quantile, abs=0.08)


def test_no_effect_at_any_level_passes_with_a_hundred_positives():
    label = np.repeat([1.0, 0.0], [100, 300])
    judged = acquisition_shift.judge(
        context(lambda clean: [clean] * 3, labels=label[:, None]), check_spec(DOSE, {})
    ).judged
    assert {item.criterion.verdict for item in judged} == {Verdict.PASS}
    auroc = judged[0].criterion.harm
    # Three criteria, one limit each that can err; their levels are no further ones.
    assert auroc.confidence == pytest.approx(1 - 2 * 0.05 / 3, abs=1e-6)
    assert auroc.upper == pytest.approx(1 - (0.05 / 3) ** (1 / 100), rel=1e-5)


def test_exact_comparisons_take_their_share_from_those_that_vary():
    made, check = context(), check_spec(DOSE, {})
    alone = judge_jointly(made, check, fixed(0.0, np.eye(N)[:5] / 20))
    exact = [replace(c, quantity=f"exact {c.quantity}") for c in fixed(0.0, np.zeros((5, N)))]
    beside = judge_jointly(made, check, [*fixed(0.0, np.eye(N)[:5] / 20), *exact])
    assert beside[0].criterion.harm.confidence > alone[0].criterion.harm.confidence
    assert beside[0].criterion.harm.upper > alone[0].criterion.harm.upper
    assert len({item.criterion.harm.confidence for item in beside}) == 1


def test_harms_without_variance_beyond_the_tolerance_count_one_each():
    check = check_spec(DOSE, {})
    levels = [replace(c, quantity="flips") for c in fixed(1.0, np.zeros((4, N)))]
    (judged,) = judge_jointly(context(), check, levels)
    assert judged.family.exact == 4
    (judged,) = judge_jointly(context(), check, [replace(c, quantity="flips") for c in fixed(0.0, np.zeros((4, N)))])
    assert judged.family.exact == 1


def test_counts_are_those_of_the_level_that_decides():
    def altered(clean):
        worst = np.where(np.arange(N) < 350, clean - 2 * LABEL, np.nan)
        return [clean + 0.1 * noise(1), clean + 0.1 * noise(2), worst]

    made = context(altered)
    for item in acquisition_shift.judge(made, check_spec(DOSE, {})).judged:
        c = item.criterion
        expected = 350 if c.level.name == "dose 0.1" else N
        assert (c.positives, c.negatives, c.patients) == (expected // 2, expected // 2, expected)
    auroc = next(i.criterion for i in acquisition_shift.judge(made, check_spec(DOSE, {})).judged)
    assert auroc.positives == 175


def test_needed_positives_start_from_those_that_were_used():
    def altered(clean):
        return [np.where(np.arange(N) < 80, clean - 0.5 * LABEL + 0.8 * noise(k), np.nan) for k in (1, 2, 3)]

    auroc = acquisition_shift.judge(context(altered), check_spec(DOSE, {})).judged[0].criterion
    assert auroc.verdict is Verdict.INCONCLUSIVE
    assert "there are 40" in auroc.reason


def test_scores_are_looked_at_once(monkeypatch):
    seen = []
    real = auc_module.placements
    monkeypatch.setattr(auc_module, "placements", lambda *a: (seen.append(1), real(*a))[1])
    acquisition_shift.judge(context(), check_spec(DOSE, {}))
    assert len(seen) == 4  # clean and three doses, for drops and curves at two levels of confidence


def test_prepared_looks_once_and_repeats_what_it_cannot_do():
    calls = []

    def prepare():
        calls.append(1)
        return lambda confidence: Estimate(value=0.0, lower=-confidence, upper=confidence)

    estimate = Prepared(prepare)
    assert [estimate(level).upper for level in (0.9, 0.95)] == [0.9, 0.95]
    assert len(calls) == 1

    def refuse():
        raise StatisticsError("one class")

    with pytest.raises(StatisticsError, match="one class"):
        Prepared(refuse)(0.95)


def test_counts_of_an_attack_are_the_calls_it_could_flip():
    made = context()
    found, _ = audit("attack.fgsm", made=made)
    clean = made.clean("f")
    expected = (int(((LABEL == 1) & (clean >= 0)).sum()), int(((LABEL == 0) & (clean < 0)).sum()))
    assert expected[0] < N // 2
    assert {(c.positives, c.negatives) for c in found.values()} == {expected}


def test_counts_of_a_subgroup_leave_out_cases_without_a_group():
    sex = ["", *(["F", "M", "F"] * N)[: N - 1]]
    found, _ = audit("subgroup.performance", made=context(metadata={"sex": sex}, roles={"sex": "demographic"}))
    gaps = [c for c in found.values() if "against the rest" in c.quantity]
    assert {(c.positives, c.negatives, c.patients) for c in gaps} == {(N // 2 - 1, N // 2, N - 1)}


def flipped():
    """The patch turns every call: harm 1 in both directions."""
    made = context()
    clean = made.clean("f")
    columns = dict(made.scores.columns)
    columns[Column(condition="attack.patch", level="5", finding="f")] = (-clean).astype(np.float32)
    level = Level(name="5", value=5.0, unit="% of the pixels")
    return replace(made, scores=replace(made.scores, columns=columns), levels={**made.levels, "attack.patch": (level,)})


@pytest.mark.parametrize("multiplicity", ["check", "audit"])
def test_what_is_only_shown_has_its_numbers_no_verdict_and_no_part_in_the_others(multiplicity):
    beside, _ = audit(*CHECKS, multiplicity=multiplicity)
    found, _ = audit(*CHECKS, "attack.patch", multiplicity=multiplicity, made=flipped())
    shown = [criterion for criterion in found.values() if criterion.check == "attack.patch"]
    assert len(shown) == 2
    for criterion in shown:
        assert criterion.verdict is Verdict.INFORMATIONAL
        assert criterion.tolerance is criterion.critical_harm is criterion.needed_positives is None
        assert criterion.harm.lower < criterion.harm.estimate == 1.0
        assert criterion.reason.startswith("shown, not judged")
    assert {id: found[id] for id in beside} == beside


def test_what_is_only_shown_is_judged_where_a_tolerance_is_stated():
    spec = check_spec("attack.patch", {"tolerance": 0.5})
    judged = adversarial.judge(flipped(), spec).judged
    assert {item.criterion.verdict for item in judged} == {Verdict.FAIL}
    assert {item.criterion.tolerance for item in judged} == {0.5}

"""Shown and never judged: the numbers are right, and no score, denominator or exit code knows of them."""

import numpy as np
import pytest
from scipy.special import expit, logit

from robustbench_rad.checks import (
    clean_calibration,
    clean_operating_point,
    clean_readers,
    clean_selective_prediction,
    defaults,
)
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.errors import PlanError
from robustbench_rad.judgement import judge_audit
from robustbench_rad.plan import ClaimSection
from robustbench_rad.profile import CheckSpec, Profile, check_spec
from robustbench_rad.result import Domain, Verdict
from robustbench_rad.scores import Column, ScoreTable

N = 800
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=N) * 2 - 1
LABEL = (RNG.random(N) < expit(LOGITS)).astype(float)
THRESHOLD = 0.3
MARGINS = LOGITS - logit(THRESHOLD)
SITES = ["A" if case % 2 else "B" for case in range(N)]
INFORMATIONAL = ("clean.calibration", "clean.operating-point", "clean.selective-prediction", "clean.readers")
MODULES = (clean_calibration, clean_operating_point, clean_selective_prediction, clean_readers)


def context(margins=MARGINS, label=LABEL, shifted=None, **more) -> JudgeContext:
    columns = {("clean", ""): margins}
    if shifted is not None:
        columns["shift.xr.dose", "0.1"] = shifted
        more["levels"] = {"shift.xr.dose": (Level(name="0.1", value=0.1, unit=""),)}
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(len(label)))),
            columns={
                Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in columns.items()
            },
            quantities={},
        ),
        findings=("f",),
        labels=np.asarray(label)[:, None],
        patients=np.arange(len(label)),
        **{"thresholds": {"f": THRESHOLD}, **more},
    )


def spec(id):
    return check_spec(id, {})


def found(outcome):
    return {item.criterion.quantity: item.criterion for item in outcome.judged}


def cell(table, column, **where):
    (row,) = [r for r in table.rows if all(r[table.columns.index(k)] == v for k, v in where.items())]
    return row[table.columns.index(column)]


class TestCalibration:
    check = spec("clean.calibration")

    def test_a_calibrated_model_is_shown_as_one(self):
        rows = found(clean_calibration.judge(context(), self.check))
        for quantity, ideal in (("calibration slope", 1), ("calibration intercept", 0), ("observed / expected", 1)):
            assert rows[quantity].harm.lower < ideal < rows[quantity].harm.upper

    def test_log_odds_are_the_margin_plus_the_thresholds(self):
        """Margins alone would say that the model is off by the log-odds of its threshold."""
        rows = found(clean_calibration.judge(context(thresholds={"f": 0.5}), self.check))
        assert rows["calibration intercept"].harm.upper < 0

    def test_recalibration_at_a_site_shows_what_it_would_mend(self):
        wrong = np.where(np.array(SITES) == "B", MARGINS + 3, MARGINS)
        outcome = clean_calibration.judge(
            context(wrong, metadata={"site": SITES}, roles={"site": "nuisance"}), self.check
        )
        (table,) = [t for t in outcome.tables if "site" in t.columns]
        before = cell(table, "squared error", site="B", map="none")
        assert before > 0.05
        assert abs(cell(table, "squared error", site="B", map="platt")) < 0.2 * before
        assert cell(table, "specificity", site="B", map="isotonic") > cell(table, "specificity", site="B", map="none")

    def test_a_site_without_positives_is_not_powered(self):
        sites = ["C" if y == 0 and i < 300 else "A" for i, y in enumerate(LABEL)]
        outcome = clean_calibration.judge(context(metadata={"s": sites}, roles={"s": "nuisance"}), self.check)
        assert "not powered: 0 positives" in cell(outcome.tables[1], "map", s="C")

    def test_without_a_probability_it_says_so(self):
        rows = found(clean_calibration.judge(context(thresholds={}), self.check))
        assert all("largest class" in row.reason for row in rows.values())

    def test_probabilities_of_exactly_zero_and_one(self):
        rows = found(clean_calibration.judge(context(np.where(LABEL == 1, 800.0, -800.0)), self.check))
        assert rows["observed / expected"].harm.estimate == pytest.approx(1)
        assert "separate the classes" in rows["calibration slope"].reason


class TestOperatingPoint:
    check = spec("clean.operating-point")

    def test_predictive_values_and_cost_at_what_the_plan_declares(self):
        made = context(prevalence={"f": 0.03}, costs={"f": {"miss": 20, "false_alarm": 1}})
        outcome = clean_operating_point.judge(made, self.check)
        rows = found(outcome)
        se, sp = (MARGINS[LABEL == 1] >= 0).mean(), (MARGINS[LABEL == 0] < 0).mean()
        ppv = se * 0.03 / (se * 0.03 + (1 - sp) * 0.97)
        assert rows["PPV at a prevalence of 0.03"].harm.estimate == pytest.approx(ppv)
        cost = 0.03 * 20 * (1 - se) + 0.97 * (1 - sp)
        assert rows["expected cost per case"].harm.estimate == pytest.approx(cost)
        assert cell(outcome.tables[0], "cost per case", policy="locked threshold") == pytest.approx(cost)
        assert cell(outcome.tables[0], "cost per case", policy="call none") == pytest.approx(0.6)

    def test_nothing_is_guessed(self):
        rows = found(clean_operating_point.judge(context(), self.check))
        assert "declare [data] prevalence" in rows["PPV and NPV"].reason
        assert "expected cost per case" not in rows
        assert f"{LABEL.mean():.3f}" in rows["average precision"].reason


class TestSelectivePrediction:
    check = spec("clean.selective-prediction")

    def test_errors_fall_with_the_share_referred(self):
        (curve,) = clean_selective_prediction.judge(context(), self.check).curves
        rates = [curve.clean.estimate, *(point.value.estimate for point in curve.points)]
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] < 0.6 * rates[0]

    def test_a_shift_stands_beside_the_clean_images(self):
        outcome = clean_selective_prediction.judge(context(shifted=-MARGINS), self.check)
        (table,) = outcome.tables
        assert cell(table, "error rate", images="shift.xr.dose 0.1") > cell(table, "error rate", images="clean")


class TestReaders:
    check = spec("clean.readers")

    def columns(self, error=0.1):
        flips = np.random.default_rng(1).random((N, 3)) < error
        return {f"r{k}": [str(int(y)) for y in LABEL.astype(bool) ^ flips[:, k]] for k in range(3)}

    def judged(self, **columns):
        return clean_readers.judge(context(metadata=columns, readers={"f": tuple(columns)}), self.check)

    def test_agreement_and_band(self):
        outcome = self.judged(**self.columns())
        rows = found(outcome)
        assert 0.4 < rows["agreement of readers (kappa)"].harm.estimate < 0.8
        assert rows["sensitivity of the model"].reason.startswith("readers reach 0.")
        assert [row[1] for row in outcome.tables[0].rows] == ["r0", "r1", "r2", "the model"]

    def test_unread_cases_and_a_cell_that_is_no_label(self):
        columns = self.columns()
        columns["r0"][:10] = [""] * 10
        assert found(self.judged(**columns))["agreement of readers (kappa)"].harm.estimate is not None
        columns["r1"][3] = "maybe"
        (row,) = found(self.judged(**columns)).values()
        assert "maybe" in row.reason

    def test_nothing_is_shown_where_no_reader_is_declared(self):
        assert clean_readers.judge(context(), self.check).judged == []


def bad(name):
    label, margins = LABEL.copy(), MARGINS.copy()
    if name == "one class":
        label[:] = 1
    if name == "no label":
        label[:] = np.nan
    if name == "not a number":
        margins[5] = np.inf
    if name == "all tied":
        margins[:] = 0.0
    if name == "margins missing":
        margins[::2] = np.nan
    return context(
        margins,
        label,
        prevalence={"f": 0.1},
        costs={"f": {"miss": 1}},
        metadata={"a": ["1"] * N, "b": ["1"] * N},
        readers={"f": ("a", "b")},
    )


@pytest.mark.parametrize("name", ["one class", "no label", "not a number", "all tied", "margins missing", "fine"])
@pytest.mark.parametrize(("id", "module"), list(zip(INFORMATIONAL, MODULES, strict=True)), ids=INFORMATIONAL)
def test_whatever_comes_is_shown_and_never_judged(id, module, name):
    outcome = module.judge(bad(name), spec(id))
    assert outcome.judged
    for item in outcome.judged:
        criterion = item.criterion
        assert criterion.verdict is Verdict.INFORMATIONAL
        assert (criterion.tolerance, criterion.points) == (None, None)
        assert criterion.harm.estimate is not None or criterion.reason.startswith("not assessable")
    for table in outcome.tables:
        assert {len(row) for row in table.rows} <= {len(table.columns)}


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize(("id", "module"), list(zip(INFORMATIONAL, MODULES, strict=True)), ids=INFORMATIONAL)
def test_hardly_any_case(id, module, n):
    made = context(MARGINS[:n], LABEL[:n], metadata={"a": ["1"] * n}, readers={"f": ("a", "a")}, prevalence={"f": 0.1})
    assert all(item.criterion.verdict is Verdict.INFORMATIONAL for item in module.judge(made, spec(id)).judged)


def profile(*ids, left_out=()):
    checks = tuple(check_spec(id, {}, enabled=id not in left_out) for id in ids)
    return Profile(name="t", version=1, sha256="", minimum_auroc=0.7, weights={Domain.CLEAN: 1.0}, checks=checks)


def judgement(*ids, **more):
    made = context(claims={"f": ClaimSection(auroc=0.7)})
    return judge_audit(made, profile(*ids, **more), errors={}, partial={}, preflight=[])


def test_score_coverage_and_verdict_do_not_know_of_them():
    alone = judgement("clean.performance")
    beside = judgement("clean.performance", *INFORMATIONAL)
    assert alone.score.total == 100
    assert beside.score == alone.score
    assert beside.verdict is alone.verdict is Verdict.PASS
    assert len(beside.judged) > len(alone.judged)


def test_leaving_one_out_costs_nothing_and_shows_nothing():
    left = judgement("clean.performance", *INFORMATIONAL, left_out=INFORMATIONAL)
    assert left.score == judgement("clean.performance").score
    assert {item.criterion.check for item in left.judged} == {"clean.performance"}


def test_they_are_no_clean_performance():
    only = judgement(*INFORMATIONAL)
    assert only.verdict is Verdict.INCONCLUSIVE
    assert only.score.total is None
    assert "no check of clean performance" in only.score.utility_reason


@pytest.mark.parametrize("id", INFORMATIONAL)
def test_a_tolerance_is_refused(id):
    with pytest.raises(PlanError, match="shown, not judged: it takes no tolerance"):
        check_spec(id, {"tolerance": 0.1})
    assert isinstance(spec(id), CheckSpec)
    assert defaults(id).informational

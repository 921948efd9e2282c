"""No number of the informational tables stands without an interval, whatever comes in."""

import numpy as np
import pytest
from scipy.special import expit, logit

from robustbench_rad.checks import clean_calibration, clean_operating_point, clean_readers, clean_selective_prediction
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.scores import Column, ScoreTable

N = 600
RNG = np.random.default_rng(7)
LOGITS = RNG.normal(size=N) * 2 - 1
LABEL = (RNG.random(N) < expit(LOGITS)).astype(float)
MARGINS = LOGITS - logit(0.3)
MODULES = {
    "clean.calibration": clean_calibration,
    "clean.operating-point": clean_operating_point,
    "clean.selective-prediction": clean_selective_prediction,
    "clean.readers": clean_readers,
}
EXACT = ("cases", "margin", "kept to halve errors", "kept, lower")  # counts, policies, and a bound of its own
TESTS = ("Spiegelhalter Z", "plug-in calibration error")  # beside a p-value, and beside what chance gives


def tables(id, *args, **given):
    return outcome(id, *args, **given).tables


def outcome(id, margins=MARGINS, label=LABEL, patients=None, threshold=0.3):
    n = len(label)
    wrong = np.where(RNG.random(n) < 0.1, 1 - label, label)
    reader = ["" if np.isnan(value) else str(int(value)) for value in wrong]
    column = {"clean": Column(condition="clean", level="", finding="f")}
    column["shift"] = Column(condition="shift.xr.dose", level="0.1", finding="f")
    context = JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(n))),
            columns={key: np.asarray(margins, np.float32) for key in column.values()},
            quantities={},
        ),
        findings=("f",),
        labels=np.asarray(label, float)[:, None],
        patients=np.arange(n) if patients is None else patients,
        thresholds={"f": threshold},
        prevalence={"f": 0.03},
        costs={"f": {"miss": 20, "false_alarm": 1}},
        metadata={"site": ["A", "B"] * (n // 2) + ["A"] * (n % 2), "r0": reader, "r1": reader[::-1]},
        roles={"site": "nuisance"},
        readers={"f": ("r0", "r1")},
        levels={"shift.xr.dose": (Level(name="0.1", value=0.1, unit=""),)},
    )
    return MODULES[id].judge(context, check_spec(id, {}))


def numbers(table):
    """(row, column, value, what stands in the two columns after it) of every number that is no limit."""
    limits = {place for place, name in enumerate(table.columns) if name.endswith(("lower", "upper"))}
    for row in table.rows:
        assert len(row) == len(table.columns)
        for place, value in enumerate(row):
            plain = place not in limits and table.columns[place] not in EXACT
            if plain and isinstance(value, float | int) and row[1] not in TESTS:
                yield row, table.columns[place], value, row[place + 1 : place + 3]


@pytest.mark.parametrize("id", MODULES)
def test_every_number_stands_between_its_limits(id):
    seen = 0
    for table in tables(id):
        for row, column, value, (lower, upper) in numbers(table):
            seen += 1
            assert lower <= value <= upper, (row, column)
            if row[1] not in ("call none", "call all"):
                assert lower < upper, (row, column)
    assert seen >= 4


def test_the_parts_of_the_table_are_those_of_the_decomposition():
    (table, _) = tables("clean.calibration")
    found = {row[1]: row[2:5] for row in table.rows}
    score, kept, told, left = (
        found[name][0] for name in ("Brier score", "miscalibration", "discrimination", "uncertainty")
    )
    assert score == pytest.approx(kept - told + left)
    assert found["miscalibration"][1] == 0  # calibrated: not shown to be otherwise
    assert found["discrimination"][1] > 0


def test_the_locked_threshold_costs_no_less_than_the_cheapest_and_constants_are_exact():
    (table,) = tables("clean.operating-point")
    found = {row[1]: row[3:] for row in table.rows}
    assert found["cheapest threshold on these cases"][0] <= found["locked threshold"][0]
    assert found["call none"] == pytest.approx([0.6] * 3)
    assert found["call all"] == pytest.approx([0.97] * 3)


def test_the_cost_curve_is_a_joint_band_through_the_cost_at_the_locked_threshold():
    made = outcome("clean.operating-point")
    (curve,) = made.curves
    locked = next(row for row in made.tables[0].rows if row[1] == "locked threshold")
    at = {point.level.name: point.value for point in curve.points}
    assert [point.level.value for point in curve.points] == sorted(point.level.value for point in curve.points)
    assert len(at) >= 7
    assert at["locked"].estimate == curve.clean.estimate == pytest.approx(locked[3])
    assert at["locked"].lower < locked[4]
    assert at["locked"].upper > locked[5]
    assert all(value.lower < value.estimate <= value.upper and value.confidence > 0.95 for value in at.values())
    assert not outcome("clean.operating-point", label=np.ones(N)).curves


EVERYONE = np.arange(N)
BAD = {
    "one class": {"label": np.ones(N)},
    "no positives at a site": {"label": np.where(EVERYONE % 2 == 0, 0.0, LABEL)},
    "ties everywhere": {"margins": np.zeros(N)},
    "n = 1": {"label": LABEL[:1], "margins": MARGINS[:1]},
    "NaN margins": {"margins": np.where(EVERYONE % 3 == 0, np.nan, MARGINS)},
    "all NaN": {"margins": np.full(N, np.nan)},
    "an infinite margin": {"margins": np.where(EVERYONE == 3, np.inf, MARGINS)},
    "probabilities of 0 and 1": {"margins": np.where(LABEL == 1, 900.0, -900.0)},
    "probabilities of 0 and 1, wrong": {"margins": np.where(LABEL == 1, -900.0, 900.0)},
    "patients with both labels": {"patients": EVERYONE // 5},
    "one patient": {"patients": np.zeros(N, np.int64)},
}
SAID = ("assessable", "expected", "case", "infinite", "not powered")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("id", MODULES)
def test_bad_input_leaves_every_number_with_limits_or_says_why(id, name):
    for table in tables(id, **BAD[name]):
        assert table.rows
        for row, column, value, beside in numbers(table):
            lower, upper = beside
            assert lower is not None, (row, column)
            assert upper is not None, (row, column)
            assert lower <= value + 1e-12, (row, column)
            assert value <= upper + 1e-12, (row, column)
        for row in table.rows:
            texts = [cell for cell in row if isinstance(cell, str)]
            empty = all(cell is None for cell in row if not isinstance(cell, str))
            assert not empty or any(said in text for text in texts for said in SAID), row


def test_one_refused_number_does_not_take_the_others_along():
    """Spiegelhalter's test says nothing where every probability is a half; the Brier score does."""
    (table, _) = tables("clean.calibration", np.zeros(N), threshold=0.5)
    found = {row[1]: row for row in table.rows}
    assert "0.5" in found["Spiegelhalter Z"][5]
    assert found["Brier score"][2] == pytest.approx(0.25)

"""What is shown of acquisition shifts level by level, and categorical faults: listed, not averaged."""

import numpy as np
import pytest

from robustbench_rad.checks import acquisition_shift, all_checks, categorical_shift, defaults
from robustbench_rad.checks.acquisition_levels import NO_EFFECT, crossing, directions
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.registry import find
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

N = 800
LABEL = np.tile([1.0, 0.0], N // 2)
CLEAN = 4 * (LABEL - 0.5) + np.random.default_rng(0).normal(size=N)
DOSE, FAULT = "shift.xr.dose", "shift.scanner.xr"


def _levels(*values, unit=""):
    return tuple(Level(name=str(value), value=value, unit=unit) for value in values)


def _context(id, levels, altered, quantities=None):
    columns = {("clean", ""): CLEAN} | {
        (id, level.name): margins for level, margins in zip(levels, altered, strict=True)
    }
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={
                Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in columns.items()
            },
            quantities={
                Quantity(condition=id, name=name, level=level): np.full(N, value, np.float32)
                for (name, level), value in (quantities or {}).items()
            },
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        levels={id: levels},
    )


def _shown(tables, title):
    (table,) = [table for table in tables if table.title == title]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _outcome(quantities=None):
    broken = np.random.default_rng(1).normal(size=N)
    half = np.where(LABEL == 1, CLEAN - 1.25, CLEAN)  # loses about a tenth of the positives
    levels = _levels(0.5, 0.25, 0.1, unit="of the exposure")
    return acquisition_shift.judge(_context(DOSE, levels, [CLEAN, half, broken], quantities), check_spec(DOSE, {}))


def test_the_report_says_up_to_where_it_holds_from_where_it_fails_and_where_it_cannot_tell():
    rows = {row["quantity"]: row for row in _shown(_outcome().tables, "How far the shift may go")}
    sensitivity, specificity = rows["sensitivity drop"], rows["specificity drop"]
    assert sensitivity["holds up to"] == "0.5 of the exposure"
    assert sensitivity["fails from"] in ("0.25 of the exposure", "0.1 of the exposure")
    assert specificity["holds up to"] == "0.25 of the exposure"
    assert specificity["fails from"] == "0.1 of the exposure"


def test_a_level_beyond_one_that_cannot_be_told_is_not_held():
    mild, middle, strong = _levels(1.0, 2.0, 3.0)
    state = {mild: Verdict.PASS, middle: Verdict.INCONCLUSIVE, strong: Verdict.PASS}.get
    assert crossing((mild, middle, strong), state) == ["1.0", "none of these", "2.0"]
    assert crossing((middle,), state) == ["no level", "none of these", "2.0"]


def test_ladders_of_two_units_are_told_apart():
    ladder = (*_levels(3.0, 20.0, unit="HU"), *_levels(-2.0, unit="%"))
    assert [[str(level) for level in way.levels] for way in directions(ladder, 0.0)] == [
        ["3.0 HU", "20.0 HU"],
        ["-2.0 %"],
    ]
    assert [way.name for way in directions(ladder, 0.0)] == ["above 0", "below 0"]
    assert directions((), None) == []


def test_requested_stands_before_achieved_and_each_level_says_whether_it_reaches_the_model():
    quantities = {
        ("noise_sd", "0.5"): 0.01,
        ("noise_sd_requested", "0.5"): 0.011,
        ("change_at_model_input", "0.5"): 0.002,
        ("change_at_model_input", "0.1"): 0.02,
    }
    outcome = _outcome(quantities)
    first, _, last = _shown(outcome.tables, "What the shift did")
    names = list(first)
    assert names.index("median noise sd requested") + 1 == names.index("median noise sd")
    assert names.index("median noise sd") + 1 == names.index("median change at model input")
    assert first["at the model's input"] == NO_EFFECT
    assert last["at the model's input"] == ""
    assert outcome.notices == []


def test_categorical_conditions_are_shown_and_never_judged():
    categorical = [id for id in all_checks() if id.startswith("shift.") and find(id).kind == "categorical"]
    assert FAULT in categorical
    for id in categorical:
        assert defaults(id).informational, id
        assert defaults(id).judge.endswith("categorical_shift")


def test_a_fault_is_listed_with_what_it_costs():
    levels = tuple(Level(name=n, value=v, unit="") for n, v in (("A", 1.0), ("B", 2.0)))
    outcome = categorical_shift.judge(_context(FAULT, levels, [CLEAN, -CLEAN]), check_spec(FAULT, {}))
    assert outcome.judged == []
    rows = {(row["level"], row["metric"]): row for row in _shown(outcome.tables, "What each of them costs")}
    assert rows["A", "AUROC"]["drop"] == pytest.approx(0.0)
    assert rows["B", "AUROC"]["drop"] > 0.9
    assert rows["B", "sensitivity"]["drop lower"] > 0.9
    assert rows["B", "AUROC"]["under it"] < 0.05
    assert {row["cases"] for row in rows.values()} == {N}


def test_a_fault_that_applied_to_no_case_says_so():
    levels = (Level(name="A", value=1.0, unit=""),)
    outcome = categorical_shift.judge(_context(FAULT, levels, [np.full(N, np.nan)]), check_spec(FAULT, {}))
    for row in _shown(outcome.tables, "What each of them costs"):
        assert row["drop"] is None
        assert "no meaning" in row["note"]

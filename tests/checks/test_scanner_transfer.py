"""The share of the scanner's mark on the score that rendering explains, on scores whose answer is planted."""

import numpy as np
import pytest
from scipy.stats import norm

from robustbench_rad.checks import defaults, scanner_transfer
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.scores import Column, ScoreTable
from robustbench_rad.shifts._scanner_names import IN_ORDER

ID, N = "shift.scanner.transfer", 1200
RANDOM = np.random.default_rng(0)
LABEL = np.tile([1.0, 1.0, 0.0, 0.0], N // 4)
SCANNER = np.where(np.arange(N) % 2, "A", "B")  # equally many: A is first by name
MARK = 1.5  # log-odds that scanner A adds
CLEAN = 2 * (LABEL - 0.5) + RANDOM.normal(size=N) + MARK * (SCANNER == "A")


def _context(altered, levels, names=SCANNER, clean=CLEAN, reasons=None):
    columns = {("clean", ""): clean} | {(ID, name): margins for name, margins in altered.items()}
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={
                Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in columns.items()
            },
            quantities={},
            reasons=reasons or {},
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        metadata={"device": list(names)},
        roles={"device": "nuisance"},
        levels={ID: levels},
    )


def _judged(share, clean=CLEAN):
    """Cases of B rendered as of A, which brings a share of the planted mark about."""
    rendered = np.where(SCANNER == "B", clean + share * MARK + 0.05 * RANDOM.normal(size=N), np.nan)
    ladder = (Level(name="1", value=1.0, unit=IN_ORDER),)
    return scanner_transfer.judge(_context({"1": rendered}, ladder, clean=clean), check_spec(ID, {}))


def _row(outcome, title):
    (table,) = [table for table in outcome.tables if table.title.startswith(title)]
    (row,) = table.rows
    return dict(zip(table.columns, row, strict=True))


def test_it_is_shown_and_not_judged():
    assert defaults(ID).informational
    assert _judged(1.0).judged == []


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_planted_share_is_found_with_its_interval(share):
    outcome = _judged(share)
    change = _row(outcome, "Change of the score")
    assert change["rendered as of"] == "A (1 in order of cases)"
    assert (change["cases rendered"], change["cases of it"]) == (N // 2, N // 2)
    assert change["observed difference lower"] < MARK < change["observed difference upper"]
    assert change["change under transfer"] == pytest.approx(share * MARK, abs=0.02)
    assert change["share lower"] <= share <= change["share upper"]
    told = _row(outcome, "How much of telling")
    assert told["AUROC of the scanner"] > 0.8
    before, after = (norm.cdf(mark * MARK / np.sqrt(2)) - 0.5 for mark in (1.0, 1.0 - share))
    assert told["share explained lower"] <= 1 - after / before <= told["share explained upper"]


def test_rendering_the_wrong_way_explains_less_than_nothing():
    assert _row(_judged(-0.5), "How much of telling")["share explained upper"] < 0


def test_a_score_that_does_not_tell_the_scanner_has_nothing_to_explain():
    told = _row(_judged(0.0, clean=CLEAN - MARK * (SCANNER == "A")), "How much of telling")
    assert told["share explained"] is None
    assert "nothing to explain" in told["note"]


def test_targets_by_name_and_targets_that_no_case_could_be_rendered_as():
    ladder = (Level(name="B", value=1.0, unit=""), Level(name="C", value=2.0, unit=""))
    rendered = np.where(SCANNER == "A", CLEAN - MARK, np.nan)
    reasons = {(ID, "C"): "no case is of scanner C"}
    context = _context({"B": rendered, "C": np.full(N, np.nan)}, ladder, reasons=reasons)
    outcome = scanner_transfer.judge(context, check_spec(ID, {"scanners": ["B", "C"]}))
    assert _row(outcome, "Change of the score")["rendered as of"] == "B"
    assert outcome.notices == [f"{ID}: not assessable for C: no case is of scanner C"]


def test_no_number_from_the_model_is_said_and_not_a_share():
    broken = np.where(SCANNER == "B", CLEAN, np.nan)
    broken[0] = np.inf
    ladder = (Level(name="1", value=1.0, unit=IN_ORDER),)
    told = _row(scanner_transfer.judge(_context({"1": broken}, ladder), check_spec(ID, {})), "How much of telling")
    assert told["share explained"] is None
    assert "infinity" in told["note"]


def test_without_a_column_nothing_is_claimed():
    ladder = (Level(name="1", value=1.0, unit=IN_ORDER),)
    context = _context({"1": np.full(N, np.nan)}, ladder, names=[""] * N)
    outcome = scanner_transfer.judge(context, check_spec(ID, {}))
    assert [table.title for table in outcome.tables] == ["What the shift did"]
    assert "not assessable" in outcome.notices[0]

"""Masked anatomy reads the retained spread with its interval: neither dust nor use is told from a point estimate."""

import numpy as np
import pytest

from robustbench_rad.checks import masked_anatomy
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable
from robustbench_rad.shortcuts.masked_anatomy import fill_level
from robustbench_rad.statistics.auc import auc

N = 600
RNG = np.random.default_rng(0)
LABEL = np.tile([1.0, 0.0], N // 2)
CLEAN = 3 * (LABEL - 0.5) + RNG.normal(size=N)
MASKED = 3 * (LABEL - 0.5) + RNG.normal(size=N)  # as telling as the clean score, from other noise


def outcome(retained, masks=N, own=None, outline=None):
    """What is said of fills that retain this share of the spread, and order the cases well; masks of the first only.

    The outline of the mask has margins of its own where they are given.
    """
    masked = np.where(np.arange(N) < masks, MASKED * retained * CLEAN.std() / MASKED.std(), np.nan)
    columns = {("clean", ""): CLEAN} | {(CHECK.id, fill): masked for fill in masked_anatomy.FILLS}
    columns |= {} if outline is None else {(CHECK.id, name): outline for name in masked_anatomy.OUTLINES}
    context = JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={Column(condition=c, level=v, finding="f"): m.astype(np.float32) for (c, v), m in columns.items()},
            quantities={} if own is None else {OUTSIDE: np.asarray(own, np.float32)},
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        levels={CHECK.id: tuple(fill_level(name) for condition, name in columns if condition == CHECK.id)},
    )
    return masked_anatomy.judge(context, CHECK)


def judged(retained, masks=N):
    (item,) = outcome(retained, masks).judged
    return item.criterion


CHECK = check_spec("shortcut.masked-anatomy", {})
OUTSIDE = Quantity(condition=CHECK.id, name="anatomy_outside_atlas_fraction")


@pytest.mark.parametrize(
    ("retained", "verdict"),
    [
        (0.010, Verdict.PASS),
        (0.0198, Verdict.INCONCLUSIVE),  # dust by its estimate, perhaps more by its interval
        (0.05, Verdict.INCONCLUSIVE),
        (0.102, Verdict.INCONCLUSIVE),  # a use by its estimate, perhaps less by its interval
        (0.20, Verdict.FAIL),
    ],
)
def test_the_interval_of_the_spread_decides(retained, verdict):
    assert judged(retained).verdict is verdict


def test_counts_are_those_of_the_cases_with_a_mask():
    criterion = judged(0.5, masks=400)
    assert (criterion.positives, criterion.negatives, criterion.patients) == (200, 200, 400)


@pytest.mark.parametrize(
    ("retained", "held", "dust"),
    [(0.010, False, True), (0.05, True, False), (0.102, True, False), (0.20, False, False)],
)
def test_a_limit_that_the_spread_has_set_says_so(retained, held, dust):
    criterion = judged(retained)
    for text in (criterion.reason, criterion.harm.method):
        assert ("lower limit held at the tolerance" in text) is held
        assert ("upper limit 0" in text) is dust
    if held:
        assert criterion.harm.lower == CHECK.delta("")


def test_cases_whose_own_mask_is_missing_or_empty_are_counted():
    (said,) = outcome(0.05, own=np.where(np.arange(N) < 25, np.nan, 0.1)).notices
    assert f"25 of {N} cases have no anatomy mask, or an empty one" in said
    for own in (None, np.zeros(N), np.full(N, np.nan)):
        assert not outcome(0.05, own=own).notices


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0], ids=["no outline", "outline tells less", "outline tells more"])
def test_the_difference_to_the_outline_alone_is_shown_paired_on_cases_with_a_mask(weight):
    outline = np.where(np.arange(N) < 500, 5 * weight * (LABEL - 0.5) + RNG.normal(size=N), np.nan)
    table = outcome(0.5, outline=outline).tables[0]
    place = table.columns.index("above the outline")
    rows = {row[1]: row[place : place + 3] for row in table.rows}
    assert {len(row) for row in table.rows} == {len(table.columns)}
    quantum = masked_anatomy.QUANTUM * CLEAN.std()
    some = np.arange(N) < 500
    pair = (np.round(0.5 * MASKED * CLEAN.std() / MASKED.std() / quantum), np.round(outline / quantum))
    label = np.where(some, LABEL, np.nan)
    areas = [auc(label, np.nan_to_num(one), range(N), N).value for one in pair]
    estimate, lower, upper = rows["atlas-mean"]
    assert estimate == pytest.approx(areas[0] - areas[1], abs=1e-4)
    assert lower < estimate < upper
    assert rows["shape-only"] == rows["own-mean"] == [None] * 3
    if weight == 1.0:
        assert upper < 0
    if weight == 0.0:
        assert lower > 0.3


def test_an_outline_of_which_hardly_any_spread_is_left_excuses_no_shortcut_however_it_ranks():
    telling = 5 * (LABEL - 0.5) + RNG.normal(size=N)
    for share, verdict in ((0.005, Verdict.FAIL), (0.5, Verdict.PASS)):
        found = outcome(0.5, outline=share * telling * CLEAN.std() / telling.std())
        (item,) = found.judged
        assert item.criterion.verdict is verdict
        rows = {row[1]: row for row in found.tables[0].rows}
        place = found.tables[0].columns.index("above the outline")
        assert rows["shape-only"][3] > 0.95  # as it ranks
        assert (rows["atlas-mean"][place] > 0.3) is (verdict is Verdict.FAIL)


def test_without_masks_of_cases_there_is_no_difference_to_an_outline():
    table = outcome(0.5).tables[0]
    place = table.columns.index("above the outline")
    assert all(row[place : place + 3] == [None] * 3 for row in table.rows)
    assert all(row[-1] is not None for row in table.rows)


@pytest.mark.parametrize("retained", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("dust", [0.0, 1e-6])
def test_an_outline_that_is_the_same_for_all_cases_as_that_of_an_atlas_tells_exactly_nothing(retained, dust):
    """Not what 600 cases leave open of a score without information, 0.45 to 0.55: any other case has this outline too."""
    found = outcome(retained, outline=2.0 + dust * RNG.normal(size=N))
    (item,) = found.judged
    (without,) = outcome(retained).judged
    assert item.criterion.harm == without.criterion.harm
    assert item.criterion.verdict is without.criterion.verdict
    assert "above chance and the shape's 0.500 to 0.500" in item.criterion.harm.method
    rows = {row[1]: row for row in found.tables[0].rows}
    place = found.tables[0].columns.index("above the outline")
    assert rows["atlas-mean"][place] == pytest.approx(rows["atlas-mean"][3] - 0.5)
    assert rows["shape-only"][place : place + 3] == [None] * 3
    assert rows["shape-only"][2] == N


def test_where_no_anatomy_could_be_covered_there_is_no_empty_table():
    assert not outcome(0.5, masks=0).tables
    assert outcome(0.5, masks=N // 2).tables

"""Patch shuffle and frequency bands as they are shown: numbers, warnings, and what cannot be told."""

import numpy as np
import pytest

from robustbench_rad.checks import frequency_bands, patch_shuffle
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable
from robustbench_rad.shortcuts.frequency_bands import LADDER
from robustbench_rad.shortcuts.patch_shuffle import patch_level

SHUFFLE, BANDS = check_spec("shortcut.patch-shuffle", {}), check_spec("shortcut.frequency-bands", {})
SIZES = tuple(patch_level(name) for name in ("1/28", "1/28 draw 2", "1/14"))


def context(seed=0, *, n=800, b=0.0, keeps=0.0, columns=None, role="nuisance", **changes):
    """A model of evidence and b SD of a scanner, of whose evidence the altered images keep a share; the scanner stays."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.5).astype(float)
    scanner = rng.random(n) < np.where(label == 1, 0.9, 0.1)
    evidence = 1.5 * label + rng.normal(size=n)
    found = {Column(condition="clean", level="", finding="f"): evidence + b * scanner}
    for check, levels in ((SHUFFLE, SIZES), (BANDS, LADDER)):
        for level in levels:
            if level.name.endswith("cycles/mm"):
                altered = np.full(n, np.nan)
            else:
                altered = keeps * evidence + (1 - keeps) * rng.normal(size=n) + b * scanner
            found[Column(condition=check.id, level=level.name, finding="f")] = altered
    metadata = {"scanner": ["A" if one else "B" for one in scanner]} if columns is None else columns(n)
    given = {
        "scores": ScoreTable(
            cases=tuple(map(str, range(n))),
            columns={key: np.asarray(values, np.float32) for key, values in found.items()},
            quantities={},
        ),
        "findings": ("f",),
        "labels": label[:, None],
        "patients": np.arange(n),
        "metadata": metadata,
        "roles": dict.fromkeys(metadata, role),
        "levels": {SHUFFLE.id: SIZES, BANDS.id: LADDER},
    }
    return JudgeContext(**(given | changes))


def shown(outcome):
    return {(row[1], row[3]): row[4:7] for row in outcome.tables[0].rows}


def test_nothing_is_ever_judged():
    for module, check in ((patch_shuffle, SHUFFLE), (frequency_bands, BANDS)):
        assert check.informational
        for b in (0.0, 3.0):
            judged = module.judge(context(b=b), check).judged
            assert judged
            assert {item.criterion.verdict for item in judged} == {Verdict.INFORMATIONAL}


def test_what_is_left_is_shown_per_size_over_all_draws():
    outcome = patch_shuffle.judge(context(keeps=1.0), SHUFFLE)
    assert {row[2] for row in outcome.tables[0].rows if row[1] == "1/28"} == {2}
    rows = shown(outcome)
    assert rows["1/28", "kept"] == pytest.approx([1, 1, 1])
    assert rows["1/28", "AUROC, shuffled"] == pytest.approx(rows["1/28", "AUROC, clean"])
    estimate, lower, upper = shown(patch_shuffle.judge(context(keeps=0.0), SHUFFLE))["1/14", "kept"]
    assert lower < 0 < upper
    assert upper - lower < 0.35
    assert estimate == pytest.approx(0, abs=0.15)


def test_a_global_shortcut_is_named_with_the_column_that_the_score_depends_on():
    (notice,) = patch_shuffle.judge(context(b=2.0), SHUFFLE).notices
    assert "depends on scanner" in notice
    assert "global trait" in notice
    assert not patch_shuffle.judge(context(b=0.0, keeps=1.0), SHUFFLE).notices  # a detector of small lesions
    assert not patch_shuffle.judge(context(b=2.0, role="risk_factor"), SHUFFLE).notices


ASKED = check_spec(SHUFFLE.id, {"tolerance": 0.5})


def kept_criterion(given):
    (item,) = (
        item for item in patch_shuffle.judge(given, ASKED).judged if item.criterion.quantity == patch_shuffle.KEPT
    )
    return item.criterion


def test_where_a_plan_asks_a_global_trait_of_a_scanner_fails():
    criterion = kept_criterion(context(b=2.0, keeps=0.3))
    assert criterion.verdict is Verdict.FAIL
    assert criterion.harm.lower > 0.5
    assert criterion.reason.endswith("and the score depends on scanner")


@pytest.mark.parametrize("role", ["nuisance", "risk_factor"])
def test_a_detector_of_small_lesions_keeps_its_auroc_and_never_fails(role):
    """All is kept, and the score depends on no nuisance column: inconclusive, not a failure."""
    for b in (0.0, 2.0) if role == "risk_factor" else (0.0,):
        criterion = kept_criterion(context(b=b, keeps=1.0, role=role))
        assert criterion.verdict is Verdict.INCONCLUSIVE
        assert "not shown to depend on a nuisance column" in criterion.reason
        assert criterion.harm.lower == 0.5


def test_what_needs_the_layout_passes_and_no_signal_is_not_assessable():
    assert kept_criterion(context(b=0.0, keeps=0.0)).verdict is Verdict.PASS
    blind = context()
    blind.scores.columns[Column(condition="clean", level="", finding="f")][:] = 0.0
    assert kept_criterion(blind).reason.startswith("not assessable: the model shows no signal")


def test_a_model_that_reads_fine_structure_alone_is_warned_of_and_its_bands_hold_together():
    outcome = frequency_bands.judge(context(keeps=0.9), BANDS)
    (notice,) = outcome.notices
    assert notice.startswith("Warning: f: high-pass 0.3 cycles/px alone keeps")
    assert not frequency_bands.judge(context(keeps=0.0), BANDS).notices
    rows = outcome.tables[0].rows
    assert [row[1].split()[2] for row in rows] == ["cycles/px"] * 6  # no spacing, so no band per mm
    confidences = {item.criterion.harm.confidence for item in outcome.judged}
    assert 0.95 < confidences.pop() < 0.995
    assert not confidences


def test_every_number_of_a_band_stands_under_its_heading():
    for given in (context(keeps=0.9), context(columns=lambda n: {})):
        for module, check in ((patch_shuffle, SHUFFLE), (frequency_bands, BANDS)):
            for table in module.judge(given, check).tables:
                assert {len(row) for row in table.rows} == {len(table.columns)}
    table = frequency_bands.judge(context(keeps=0.9), BANDS).tables[0]
    for row in table.rows:
        *_, spread, lower, upper, note = row
        assert 0.7 < lower < spread < upper < 1.1
        assert note == ""
    assert table.columns[-4] == "retained spread"


def test_an_auroc_with_hardly_any_spread_is_no_warning():
    given = context(keeps=0.9)
    for key, values in given.scores.columns.items():
        if key.condition == BANDS.id:
            values *= 0.05
    assert not frequency_bands.judge(given, BANDS).notices


def test_every_band_is_asked_for_the_nuisance_columns():
    outcome = frequency_bands.judge(context(b=2.0), BANDS)
    table = outcome.tables[1]
    assert len(table.rows) == 6
    assert all(row[2] == "scanner" and row[5] > 0.7 for row in table.rows) or all(row[6] < 0.3 for row in table.rows)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (lambda n: {"site": ["A"] * n}, "1 value"),
        (lambda n: {"site": [f"s{row % 500}" for row in range(n)]}, "group them"),
        (lambda n: {"site": [""] * n}, "0 values"),
    ],
)
def test_columns_that_cannot_be_looked_at_say_so(columns, said):
    outcome = frequency_bands.judge(context(columns=columns), BANDS)
    assert all(said in row[7] for row in outcome.tables[1].rows)
    assert not patch_shuffle.judge(context(columns=columns, keeps=1.0), SHUFFLE).notices


def test_missing_values_and_continuous_columns_are_looked_at():
    def half(n):
        return {
            "site": ["A" if row % 3 else "B" if row % 2 else "" for row in range(n)],
            "kvp": [str(60 + row % 40) for row in range(n)],
        }

    rows = frequency_bands.judge(context(columns=half), BANDS).tables[1].rows
    assert {row[3] for row in rows} == {"A", "continuous"}
    assert all(row[5] < 0.5 + 0.1 < row[4] + 0.2 for row in rows)


def test_no_columns_no_signal_and_broken_margins_are_said():
    bare = context(columns=lambda n: {})
    assert len(frequency_bands.judge(bare, BANDS).tables) == 1
    blind = context(keeps=1.0)
    for key, values in blind.scores.columns.items():
        values[:] = np.random.default_rng(len(key.level)).normal(size=len(values))
    for module, check in ((patch_shuffle, SHUFFLE), (frequency_bands, BANDS)):
        outcome = module.judge(blind, check)
        assert not outcome.notices
        assert any("no signal" in str(row[-1]) for row in outcome.tables[0].rows)
    broken = context()
    broken.scores.columns[Column(condition=SHUFFLE.id, level="1/14", finding="f")][0] = np.inf
    assert any("NaN or infinity" in str(row[-1]) for row in patch_shuffle.judge(broken, SHUFFLE).tables[0].rows)


def test_conditions_that_applied_to_no_case_are_not_assessable():
    given = context()
    for values in given.scores.columns.values():
        values[:] = (
            np.nan if values is not given.scores.columns[Column(condition="clean", level="", finding="f")] else values
        )
    for module, check in ((patch_shuffle, SHUFFLE), (frequency_bands, BANDS)):
        for item in module.judge(given, check).judged:
            assert item.criterion.reason.startswith("not assessable")

"""Judging what of a dependence goes with the tubes, with models whose answers are known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from robustbench_rad.checks import remove_tubes
from robustbench_rad.checks._nuisance_columns import asked
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Applied, Batch, Space, Variant
from robustbench_rad.profile import check_spec
from robustbench_rad.registry import entry
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable
from robustbench_rad.seeds import derive_seed

ID = "shortcut.remove-tubes"
SIDE, N = 48, 400
LABEL = np.tile([1.0, 1.0, 0.0, 0.0], N // 4)
DRAIN = np.tile([True, False], N // 2)  # as often with the finding as without
SPEC = check_spec(ID, {})


def films(drained=DRAIN) -> Batch:
    """Films with a finding in the right half, a bright corner and a drain in the left half where there is one."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 + 0.02 * torch.randn(N, 1, SIDE, SIDE, generator=generator)
    strength = 0.08 * torch.randn(N, generator=generator) + 0.1 * torch.tensor(LABEL)
    images[:, 0, 20:28, 32:40] += strength[:, None, None]
    images[torch.tensor(drained), 0, 8:40, 12] += 0.15
    images[torch.tensor(DRAIN), 0, :4, :4] += 0.15
    names = tuple(f"case-{row:03}" for row in range(N))
    lung = torch.zeros(N, 1, SIDE, SIDE, dtype=torch.bool)
    lung[..., 6:42, 4:24] = True
    return Batch(
        images=images.clamp(0, 1).float(),
        labels=torch.tensor(LABEL[:, None], dtype=torch.float32),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=Space.DISPLAY,
        modality="DX",
        anatomy=lung,
    )


def evidence(images):
    return 10 * (images[:, 0, 20:28, 32:40].mean((1, 2)) - 0.35)


def drain(images):
    """1 with a drain, 0 without."""
    return (images[:, 0, 10:38, 12].mean(1) - images[:, 0, 10:38, [8, 16]].mean((1, 2))) / 0.15


def corner(images):
    """The same of the corner, which goes with the column too."""
    return (images[:, 0, :4, :4].mean((1, 2)) - 0.3) / 0.15


def reads_nothing_else(images):
    return evidence(images)


def reads_drains(images):
    return evidence(images) + drain(images)


def reads_drains_as_reassuring(images):
    return evidence(images) - drain(images)


def reads_the_corner(images):
    return evidence(images) + corner(images)


def knows_nothing(images):
    return drain(images) + images[:, 0, 30, 30]


@cache
def taken_out(few: bool, masks: int) -> tuple[Batch, Applied, list[Variant]]:
    """Films with drains, in few of them or in half, so many with masks, and what the condition made of them."""
    drained = DRAIN & (np.arange(N) < 10) if few else DRAIN
    batch = films(drained)
    batch.anatomy[masks:] = False
    applied = entry(ID).load().from_options({}).apply(batch, None, None)
    return batch, applied, list(applied.variants)


def context(model, *, few=False, masks=N, column=None, role="nuisance", patients=None) -> JudgeContext:
    batch, applied, variants = taken_out(few, masks)
    condition = entry(ID).load().from_options({})
    columns = {Column(condition="clean", level="", finding="f"): model(batch.images).numpy()}
    reasons = {}
    for variant in variants:
        margins = np.where(variant.applicable.numpy(), model(variant.images).numpy(), np.nan).astype(np.float32)
        columns[Column(condition=ID, level=variant.level.name, finding="f")] = margins
        reasons[ID, variant.level.name] = variant.reason
    quantities = {
        Quantity(condition=ID, name=m.quantity, level=m.level): m.values.numpy() for m in applied.measurements
    }
    text = np.where(DRAIN, "yes", "no").tolist() if column is None else column
    return JudgeContext(
        scores=ScoreTable(cases=batch.case_ids, columns=columns, quantities=quantities, reasons=reasons),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N) if patients is None else patients,
        metadata={"drain": text} if role else {},
        roles={"drain": role} if role else {},
        levels={ID: condition.levels},
    )


def judged(made):
    outcome = remove_tubes.judge(made, SPEC)
    owed = [item.criterion for item in outcome.judged if item.criterion.quantity == remove_tubes.OWED]
    return owed, outcome


@pytest.mark.parametrize("model", [reads_drains, reads_drains_as_reassuring])
def test_a_model_that_reads_drains_fails_with_the_dependence_that_goes_with_them(model):
    (owed,), outcome = judged(context(model))
    assert owed.verdict is Verdict.FAIL
    assert owed.subgroup in {"drain=no", "drain=yes"}
    row = dict(zip(outcome.tables[1].columns, outcome.tables[1].rows[0], strict=True))
    assert abs(row["as it is"] - 0.5) > 0.2
    assert abs(row["placebo"] - row["as it is"]) < 0.02
    assert abs(row["without"] - 0.5) < 0.06
    assert row["goes with them"] == pytest.approx(abs(row["placebo"] - row["without"]), abs=1e-9)
    assert owed.harm.estimate == pytest.approx(min(abs(row["as it is"] - 0.5), row["goes with them"]), abs=1e-9)
    assert "the smaller counts" in owed.reason
    other = dict(zip(outcome.tables[1].columns, outcome.tables[1].rows[1], strict=True))
    assert {row["value"]: row["found in"], other["value"]: other["found in"]} == {"no": 0.0, "yes": 1.0}
    assert owed.harm.lower < owed.harm.estimate < owed.harm.upper


def test_a_model_that_does_not_read_them_passes_though_the_drains_are_there():
    (owed,), outcome = judged(context(reads_nothing_else))
    assert owed.verdict is Verdict.PASS
    assert owed.harm.estimate < 0.02
    found = {row[1]: row[2] for row in outcome.tables[0].rows}
    assert found["without the lines"] == pytest.approx(0.5, abs=0.1)


def test_a_dependence_on_something_else_is_not_owed_to_the_drains():
    (owed,), outcome = judged(context(reads_the_corner))
    row = dict(zip(outcome.tables[1].columns, outcome.tables[1].rows[0], strict=True))
    assert abs(row["as it is"] - 0.5) > 0.2
    assert owed.verdict is Verdict.PASS
    assert owed.harm.upper < 0.02


def test_what_the_lines_carry_is_no_more_than_the_dependence():
    """Drains read one way and the corner the other: removal uncovers a dependence, and takes none away."""
    (owed,), _ = judged(context(lambda images: evidence(images) + drain(images) - corner(images)))
    assert owed.harm.lower < 0.05
    assert owed.verdict is not Verdict.FAIL


def test_a_continuous_column_is_asked_for_its_trend():
    thickness = [f"{2.0 + 0.01 * row if carried else 0.5 + 0.001 * row:.3f}" for row, carried in enumerate(DRAIN)]
    (owed,), outcome = judged(context(reads_drains, column=thickness))
    assert owed.verdict is Verdict.FAIL
    assert owed.subgroup == "drain"
    assert outcome.tables[1].rows[0][2] == "continuous"


def test_every_value_of_a_column_of_three_is_asked():
    column = ["thick" if carried and row % 3 else "thin" if carried else "none" for row, carried in enumerate(DRAIN)]
    owed, _ = judged(context(reads_drains, column=column))
    assert [item.subgroup for item in owed] == ["drain=none", "drain=thick", "drain=thin"]
    assert owed[0].verdict is Verdict.FAIL


@pytest.mark.parametrize("role", ["", "risk_factor", "demographic"])
def test_without_a_nuisance_column_the_effect_is_shown_and_what_is_needed_is_said(role):
    (owed,), outcome = judged(context(reads_drains, role=role))
    assert owed.verdict is Verdict.INCONCLUSIVE
    assert owed.reason.startswith("not assessable: no nuisance column: declare one")
    effect = outcome.judged[-1].criterion
    assert effect.verdict is Verdict.INFORMATIONAL
    spread = float(np.std(reads_drains(films().images).numpy()))
    assert effect.harm.estimate == pytest.approx(-1.0 / spread, abs=0.1)


def test_a_column_that_cannot_be_asked_is_named():
    (owed,), _ = judged(context(reads_drains, column=["same"] * N))
    assert owed.verdict is Verdict.INCONCLUSIVE
    assert owed.subgroup == "drain"
    assert "two are needed" in owed.reason


def test_of_few_lines_no_more_can_be_owed_to_them_than_the_images_that_have_one():
    (owed,), outcome = judged(context(reads_the_corner, few=True))
    row = dict(zip(outcome.tables[1].columns, outcome.tables[1].rows[0], strict=True))
    assert row["goes with them"] == pytest.approx(3 / 100)  # of 100 carriers with the finding three have a line
    assert owed.harm.estimate == pytest.approx(3 / 100)
    assert owed.harm.upper > 0.05
    assert owed.verdict is Verdict.INCONCLUSIVE
    assert "at most the share of the images that have one" in owed.reason
    assert "found in 5 patients" in outcome.judged[-1].criterion.reason


def test_the_bound_of_few_lines_holds_for_the_trend_of_a_continuous_column():
    """Whatever the few cases with a line are scored without it, the trend moves by no more than is said."""
    thickness = [f"{0.5 + 0.01 * row:.2f}" for row in range(N)]
    made = context(reads_nothing_else, few=True, column=thickness)
    scores = remove_tubes._scores(made, ID, "f")
    (column,) = asked(made)
    bound = remove_tubes._at_most(made, "f", column, scores, 0.95)
    moved = [
        abs(
            column.told(made, "f", np.where(scores.found, far, scores.clean), confidence=0.95).value
            - column.told(made, "f", np.where(scores.found, -far, scores.clean), confidence=0.95).value
        )
        for far in (1e3, -1e3)
    ]
    assert 0 < max(moved) <= bound.value < bound.upper


def test_without_masks_to_look_in_nothing_is_assessable_and_cases_without_take_no_part():
    (owed,), _ = judged(context(reads_drains, masks=0))
    assert owed.reason == f"not assessable: {remove_tubes.NO_MASK}"
    (owed,), outcome = judged(context(reads_drains, masks=200))
    assert owed.verdict is Verdict.FAIL
    assert outcome.notices == [f"{ID}: 200 of 400 cases have no anatomy mask to look for lines in, and take no part"]
    assert owed.patients == 200


def test_a_model_without_signal_is_not_assessable():
    (owed,), _ = judged(context(knows_nothing))
    assert owed.verdict is Verdict.INCONCLUSIVE
    assert "no signal" in owed.reason


def test_scores_that_are_no_numbers_are_not_assessable():
    made = context(reads_drains)
    columns = dict(made.scores.columns)
    key = Column(condition=ID, level="tubes", finding="f")
    columns[key] = np.where(np.isnan(columns[key]), np.nan, np.inf).astype(np.float32)
    (owed,), _ = judged(replace(made, scores=replace(made.scores, columns=columns)))
    assert owed.verdict is Verdict.INCONCLUSIVE
    assert "NaN or infinity" in owed.reason


def test_several_images_of_a_patient_widen_the_interval():
    alone = judged(context(reads_drains))[0][0].harm
    together = judged(context(reads_drains, patients=np.arange(N) // 20))[0][0].harm
    assert together.estimate == pytest.approx(alone.estimate, rel=0.01)
    assert together.upper - together.lower >= alone.upper - alone.lower

"""Background swap as it is judged: who fails, what a seam does, and when nothing can be told."""

import numpy as np
import pytest

from robustbench_rad.checks import background_swap
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable
from robustbench_rad.shortcuts.background_swap import donor_level

CHECK = check_spec("shortcut.background-swap", {})
LEVELS = tuple(donor_level(number) for number in (1, 2, 3))


def context(seed, *, n=1000, donors=256, b=0.0, r=0.9, seam=0.0, signal=1.5, reasons=None, prevalence=0.5):
    """Margins of a model that adds b SD of a marker outside of the anatomy, as the condition would have measured them."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < prevalence).astype(float)
    marker = (rng.random(n) < np.where(label == 1, r, 1 - r)).astype(float)
    evidence = signal * label + rng.normal(size=n)
    columns = {Column(condition="clean", level="", finding="f"): evidence + b * marker}
    bank = rng.permutation(n)[:donors]
    own = np.full(n, np.nan)
    own[bank] = np.arange(len(bank))
    quantities = {Quantity(condition=CHECK.id, name="own_number_as_donor"): own}
    order = np.argsort(rng.random((n, len(bank))) + 2 * (bank == np.arange(n)[:, None]), axis=1)
    for place, level in enumerate(LEVELS):
        number = order[:, place]
        swapped = evidence + b * marker[bank[number]] + seam * rng.normal(size=n)
        columns[Column(condition=CHECK.id, level=level.name, finding="f")] = swapped
        quantities[Quantity(condition=CHECK.id, name="donor", level=level.name)] = number
        of = label[bank[number]]
        quantities[Quantity(condition=CHECK.id, name="donor_label", level=level.name, finding="f")] = of
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(n))),
            columns={key: np.asarray(values, np.float32) for key, values in columns.items()},
            quantities={key: np.asarray(values, np.float32) for key, values in quantities.items()},
            reasons=reasons or {},
        ),
        findings=("f",),
        labels=label[:, None],
        patients=np.arange(n),
        levels={CHECK.id: LEVELS},
    )


def verdicts(given):
    return [item.criterion for item in background_swap.judge(given, CHECK).judged]


def test_a_model_that_reads_the_surroundings_fails_both_harms():
    donor, drop = verdicts(context(0, b=1.0))
    assert donor.verdict is drop.verdict is Verdict.FAIL
    assert donor.harm.estimate == pytest.approx(0.16, abs=0.05)
    assert (donor.tolerance, drop.tolerance) == (0.05, 0.02)


def test_a_model_that_does_not_passes_both():
    assert {c.verdict for c in verdicts(context(1))} == {Verdict.PASS}


def test_a_seam_that_costs_auroc_is_no_shortcut():
    given = context(2, seam=1.5)
    assert Verdict.FAIL not in {c.verdict for c in verdicts(given)}
    rows = background_swap.judge(given, CHECK).tables[0].rows
    lost = next(row for row in rows if row[1] == "AUROC, clean minus swapped")
    assert lost[5] > 0.05  # the swap costs much in all, and the table says so


def test_false_alarms_are_rare():
    alarms = sum(
        Verdict.FAIL in {c.verdict for c in verdicts(context(seed, n=300, donors=128, seam=0.5))} for seed in range(40)
    )
    assert alarms == 0


def test_a_donor_told_beyond_0_52_is_warned_of_short_of_a_failure():
    seen = set()
    for seed, b in [(0, 0.0), *((seed, 0.3) for seed in range(4)), (0, 1.0)]:
        donor, drop = verdicts(context(seed, b=b, n=3000, donors=1500))
        warned = donor.verdict is not Verdict.FAIL and donor.harm.lower > 0.02
        assert ("warning: the donor's label is told beyond an AUROC of 0.52" in donor.reason) is warned
        assert "warning" not in drop.reason
        seen.add((warned, donor.verdict))
    assert {(False, Verdict.PASS), (False, Verdict.FAIL)} < seen
    assert any(warned for warned, _ in seen)


def test_criteria_are_those_of_the_judgement():
    given = context(3, b=0.5)
    alone = [item.criterion for item in background_swap.criteria(given, CHECK)]
    assert [(c.id, c.verdict, c.harm) for c in alone] == [(c.id, c.verdict, c.harm) for c in verdicts(given)]


def test_the_permutation_of_donors_stands_beside_the_interval_and_never_judges():
    for b, least in ((1.0, True), (0.0, False)):
        outcome = background_swap.judge(context(9, b=b), CHECK)
        donor, drop = (item.criterion for item in outcome.judged)
        assert ("permutation of donors: p 0.0005, by Holm 0.0005" in donor.reason) is least
        assert "permutation of donors: p" in donor.reason
        assert "permutation" not in drop.reason
        (table,) = outcome.tables
        assert {len(row) for row in table.rows} == {len(table.columns)}
        tested = [row[table.columns.index("p")] for row in table.rows]
        assert (tested[0] < 0.001) is least
        assert tested[1:] == [None, None]
    (row,) = background_swap.judge(context(4, signal=0.0), CHECK).tables[0].rows
    assert len(row) == 10
    assert row[-1].startswith("not assessable")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"signal": 0.0}, "no signal"),
        ({"donors": 12}, "not powered"),
        ({"prevalence": 0.01, "signal": 4.0}, "not powered"),
    ],
)
def test_what_cannot_be_told_is_not_assessable_and_says_why(options, said):
    for criterion in verdicts(context(4, **options)):
        assert criterion.verdict is Verdict.INCONCLUSIVE
        assert criterion.harm.estimate is None
        assert said in criterion.reason


def test_without_masks_the_reason_is_that_of_the_condition():
    given = context(5, reasons={(CHECK.id, "donor 1"): "no anatomy masks: declare [data.anatomy]"})
    for key in given.scores.columns:
        if key.condition == CHECK.id:
            given.scores.columns[key][:] = np.nan
    for criterion in verdicts(given):
        assert criterion.reason == "not assessable: no anatomy masks: declare [data.anatomy]"


def test_a_constant_score_and_broken_margins_are_not_assessable():
    given = context(6)
    for values in given.scores.columns.values():
        values[:] = 0.1
    assert {c.verdict for c in verdicts(given)} == {Verdict.INCONCLUSIVE}
    given = context(7)
    given.scores.columns[Column(condition=CHECK.id, level="donor 2", finding="f")][3] = np.inf
    assert all("NaN or infinity on 1 case" in c.reason for c in verdicts(given))


def test_donors_that_were_not_scored_are_said():
    given = context(8)
    given.scores.quantities[Quantity(condition=CHECK.id, name="own_number_as_donor")][:500] = np.nan
    assert all("not among the cases" in c.reason for c in verdicts(given))

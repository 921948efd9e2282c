"""An attack beside its controls: counted on the same right calls, with intervals, and nothing left out in silence."""

from dataclasses import replace

import numpy as np
import pytest

from robustbench_rad.attacks._mask import MaskPolicy
from robustbench_rad.checks import adversarial
from robustbench_rad.checks.adversarial_controls import controls_table
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.scores import Column, Quantity, ScoreTable

ID, N = "attack.patch", 100
LEVEL = Level(name="2", value=2.0, unit="% of the pixels")
CHECK = check_spec(ID, {})
LABEL = np.tile([1.0, 0.0], N // 2)
SIDE = 2 * LABEL - 1
CLEAN = SIDE.copy()
CLEAN[:4] *= -1  # four wrong calls
ATTACKED = np.where(np.arange(N) < 60, -SIDE, CLEAN)
NOISE = (np.arange(N) < 10).astype(float)
MARKER = (np.arange(N) < 50).astype(float)
TITLE = "Beside a change of the same size that was not searched for"


def context(attacked=ATTACKED, **controls):
    columns = {("clean", ""): CLEAN, (ID, LEVEL.name): attacked}
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={
                Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in columns.items()
            },
            quantities={
                Quantity(condition=ID, name=name, level=LEVEL.name, finding="f"): np.asarray(values, np.float32)
                for name, values in controls.items()
            },
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        levels={ID: (LEVEL,)},
    )


def rows(context):
    (table,) = controls_table(context, CHECK)
    found = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return {(row["control"], row["direction"]): row for row in found}


def test_flips_are_counted_on_the_right_calls_that_both_were_tried_on():
    found = rows(context(control_flip=NOISE, marker_flip=MARKER))
    assert len(found) == 4
    for (control, direction), row in found.items():
        right = np.sign(CLEAN) == SIDE
        right &= (1 if direction == "hide" else 0) == LABEL
        by_attack, tried = np.sign(ATTACKED) != SIDE, MARKER if "letter" in control else NOISE
        assert row["right calls"] == right.sum() == 48
        assert row["flipped by the attack"] == pytest.approx(by_attack[right].mean())
        assert row["flipped by the control"] == pytest.approx(tried[right].mean())
        assert row["by the attack alone"] == pytest.approx((by_attack & (tried == 0))[right].mean())
        assert row["alone lower"] < row["by the attack alone"] < row["alone upper"]
        assert row["not assessable"] == ""


def test_calls_that_were_not_tried_are_counted_and_said():
    part = np.where(np.arange(N) < 90, MARKER, np.nan)
    found = rows(context(marker_flip=part))
    for row in found.values():
        assert row["right calls"] == 43
        assert row["not assessable"] == "5 right call(s) were not tried"


def test_no_right_call_of_a_label_says_so():
    found = rows(context(marker_flip=np.where(LABEL == 1, MARKER, np.nan)))
    row = found["a plain letter of the same size", "create"]
    assert row["flipped by the attack"] is None
    assert "48 right call(s) were not tried" in row["not assessable"]


def test_an_attack_without_controls_has_no_table_and_one_with_them_shows_it():
    assert controls_table(context(), CHECK) == []
    outcome = adversarial.judge(context(marker_flip=MARKER), CHECK)
    assert TITLE in [table.title for table in outcome.tables]
    assert TITLE not in [table.title for table in adversarial.judge(context(), CHECK).tables]


@pytest.mark.parametrize(
    ("reach", "said"),
    [
        ({ID: ("display", "image")}, "May touch: the whole image, air included, as the model is shown it."),
        ({ID: ("display", "body")}, "May touch: the patient without the air around, as the model is shown it."),
        (
            {ID: ("stored", "lesion-protected")},
            "all but the declared lesions, in the grey levels and on the grid of the file.",
        ),
    ],
)
def test_the_table_of_flips_says_which_pixels_may_be_touched(reach, said):
    flips = adversarial.judge(replace(context(), reach=reach), CHECK).tables[0]
    assert said in flips.note


def test_every_mask_has_words():
    assert set(adversarial.PIXELS) == {str(policy) for policy in MaskPolicy}

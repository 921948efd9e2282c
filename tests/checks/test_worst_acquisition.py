"""How the worst acquisition is judged, and what is shown of the parameters."""

import numpy as np
import pytest

from robustbench_rad.checks import worst_acquisition
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.conditions import Level
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, Quantity, ScoreTable

ID, N, DOSE = "attack.worst-acquisition", 300, "shift.ct.dose"
LABEL = np.tile([1.0, 0.0], N // 2)
CLEAN = 4 * (LABEL - 0.5)


def context(attacked, dose, left_out):
    quantities = {
        Quantity(condition=ID, name=f"worst {DOSE}", level="1", finding="f"): dose,
        Quantity(condition=ID, name=f"followed {DOSE}", level="1", finding="f"): np.where(np.arange(N) < 40, 1.0, 0.0),
        Quantity(condition=ID, name=f"left_out {DOSE}", level="", finding=""): left_out,
    }
    columns = {("clean", ""): CLEAN, (ID, "1"): attacked}
    return JudgeContext(
        scores=ScoreTable(
            cases=tuple(map(str, range(N))),
            columns={
                Column(condition=c, level=v, finding="f"): np.asarray(m, np.float32) for (c, v), m in columns.items()
            },
            quantities={name: np.asarray(values, np.float32) for name, values in quantities.items()},
            full_search=frozenset([(ID, "1")]),
        ),
        findings=("f",),
        labels=LABEL[:, None],
        patients=np.arange(N),
        levels={ID: (Level(name="1", value=1.0, unit="of the envelope"),)},
    )


def judged(share):
    hidden = (LABEL == 1) & (np.arange(N) < share * N)
    dose = np.where(np.arange(N) < 100, np.linspace(0.25, 1, N), np.nan)
    found = context(np.where(hidden, -CLEAN, CLEAN), dose, np.arange(N) >= 290)
    return worst_acquisition.judge(found, check_spec(ID, {}))


@pytest.mark.parametrize(("share", "verdict"), [(0.1, Verdict.PASS), (0.3, Verdict.INCONCLUSIVE), (0.7, Verdict.FAIL)])
def test_lost_calls_are_judged_as_flips(share, verdict):
    hide, create = judged(share).judged
    assert hide.criterion.verdict is verdict
    assert hide.criterion.harm.estimate == pytest.approx(share)
    assert create.criterion.harm.estimate == 0


def test_parameters_are_shown_with_what_was_left_out():
    tables = judged(0.1).tables
    assert "Flips at the worst parameters of each case" in [table.title for table in tables]
    assert not any("bit depth" in table.title for table in tables)
    (row,) = tables[-1].rows
    shown = dict(zip(tables[-1].columns, row, strict=True))
    assert (shown["shift"], shown["cases"], shown["by gradient"], shown["left out"]) == (DOSE, 100, 40, 10)
    assert shown["lowest"] == 0.25
    assert shown["lower"] < shown["median"] < shown["upper"] < shown["highest"]

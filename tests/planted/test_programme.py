"""Worlds are judged by the audits themselves: planted defects are found, controls are not, and the read-out counts right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustbench_rad.planted import readout
from robustbench_rad.planted.defects import DEFECTS
from robustbench_rad.planted.phantoms import phantoms
from robustbench_rad.planted.programme import COMBINED, CONTROLS, Cell, Trial, audits
from robustbench_rad.planted.worlds import audit_world, constructed, context
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import CLEAN, Column

CPU = torch.device("cpu")
CHECKS = (check_spec("shortcut.masked-anatomy", {}), check_spec("shortcut.scanner-dependence", {}))
MASKED = "shortcut.masked-anatomy"


@pytest.fixture(scope="module")
def world():
    return audit_world(phantoms(400, 1), DEFECTS["corner marker"], 0.7, CHECKS, device=CPU)


def test_a_constructed_model_is_the_sum_of_its_parts_under_every_audit(world):
    none, some = (constructed(world, "lesion", "corner marker", b) for b in (0.0, 0.5))
    key = Column(condition=MASKED, level="atlas-mean", finding="disease")
    clean = Column(condition=CLEAN, level="", finding="disease")
    shift = {k: some.columns[k] - none.columns[k] for k in (key, clean)}
    for k in (key, clean):
        seen = world.scores.columns[replace(k, finding="corner marker")]
        difference = shift[k] - 0.5 * seen
        np.testing.assert_allclose(difference, difference[0], atol=1e-5)  # but for the threshold
    evidence = world.scores.clean("lesion")
    assert none.columns[clean].std() == pytest.approx(1.0, abs=1e-5)
    assert np.corrcoef(none.columns[clean], evidence)[0, 1] == pytest.approx(1.0)


def test_the_threshold_is_the_best_one(world):
    margins = context(world, constructed(world, "lesion")).clean("disease")
    called, truth = margins >= 0, world.labels == 1

    def youden(at):
        above = margins >= at
        return above[truth].mean() - above[~truth].mean()

    assert called[truth].mean() - called[~truth].mean() == pytest.approx(max(youden(at) for at in margins), abs=1e-9)


def test_a_planted_marker_is_found_and_an_unused_one_is_not():
    trials = [
        *Cell(defect="corner marker", association=0.7, cases=600, replicate=0).trials(CHECKS, (0.0, 1.0), device=CPU)
    ]
    assert [trial.verdicts[MASKED] for trial in trials] == [Verdict.PASS, Verdict.FAIL]
    assert [trial.verdicts[COMBINED] for trial in trials] == [Verdict.PASS, Verdict.FAIL]
    assert trials[1].statistics[MASKED] > 1 > trials[0].statistics[MASKED]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_is_not_reported(control):
    trial = control.trial(CHECKS[:1], 150, 0, device=CPU)
    assert not trial.reports(COMBINED)
    if control.name in ("always the same", "labels permuted"):
        assert trial.verdicts[COMBINED] == Verdict.INCONCLUSIVE


def trial(kind="m", *, control=False, strength=0.0, verdict="pass", statistic=0.0, cases=1000, association=0.7):
    return Trial(
        kind=kind,
        control=control,
        strength=strength,
        association=association,
        cases=cases,
        replicate=0,
        verdicts={"a": verdict, COMBINED: verdict},
        statistics={"a": statistic},
    )


def test_b90_is_the_least_strength_from_which_on_all_are_reported():
    def detected(strength, share):
        return [trial(strength=strength, verdict="fail" if place < share else "pass") for place in range(10)]

    trials = [*detected(0.1, 9), *detected(0.2, 8), *detected(0.3, 9), *detected(0.5, 10)]
    assert readout.b90(trials, "a") == 0.3
    assert readout.b90(detected(0.1, 8), "a") is None


def test_false_alarms_leave_out_what_is_shown_apart():
    apart = next(control.name for control in CONTROLS if control.shown_apart)
    trials = [
        trial("no shortcut", control=True),
        trial("no shortcut", control=True, verdict="fail"),
        trial(apart, control=True, verdict="fail"),
    ]
    found = readout.false_alarms(trials, "a")
    assert (found.count, found.trials) == (1, 2)


def test_separation_is_the_area_under_the_curve_and_unjudged_counts_as_no_harm():
    defects = [trial(statistic=2.0), trial(statistic=None)]
    controls = [trial(control=True, statistic=0.0), trial(control=True, statistic=1.0)]
    assert readout.separation(defects, controls, "a") == pytest.approx((1 + 1 + 0.5 + 0) / 4)
    assert readout.separation([], controls, "a") is None


def test_the_release_bar_needs_enough_controls():
    clean = [trial("no shortcut", control=True)] * 400
    found = [trial(strength=b, verdict="fail") for b in (0.3, 0.5) for _ in range(10)]
    assert readout.release_bar([*clean, *found])["false_alarms_met"]
    assert readout.release_bar([*clean, *found])["b90_met"]
    assert not readout.release_bar([*clean[:399], *found])["false_alarms_met"]
    alarms = [trial("no shortcut", control=True, verdict="fail")] * 21
    assert not readout.release_bar([*clean[:379], *alarms])["false_alarms_met"]
    assert not readout.release_bar([*clean, *[trial(strength=0.5, verdict="fail")] * 10])["b90_met"]


def test_the_audits_are_those_that_judge_in_the_profile():
    names = [check.id for check in audits()]
    assert "shortcut.masked-anatomy" in names
    assert "shortcut.scanner-dependence" in names
    assert "shortcut.spike-and-recovery" not in names

"""Published worked examples of shortcut audits: what the estimators make of data built to their figures."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from robustbench_rad.checks import within_attribute
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable
from robustbench_rad.statistics.auc import auc
from robustbench_rad.statistics.metadata_ceiling import metadata_auc
from robustbench_rad.statistics.within_attribute import reweighted_auc, within_auc

# Badgeley et al. 2019 (doi:10.1038/s41746-019-0105-1): fracture AUC 0.78, 0.67 with patient variables balanced, 0.52 with the
# process variables balanced too. A score of next to no evidence, one patient and one process variable, each going with the
# fracture as 75 to 25, has these three areas at these weights.
GOES = 0.75
EVIDENCE, PATIENT, PROCESS = 0.09737959, 1.16708087, 1.40022466
TIED, EVEN = ((1 - GOES, GOES), (GOES, 1 - GOES)), ((0.5, 0.5), (0.5, 0.5))


def area(patient, process):
    """Closed form: the chances of both variables among positives and negatives, and the normal difference of two scores."""
    return sum(
        patient[0][a]
        * patient[1][b]
        * process[0][c]
        * process[1][d]
        * norm.cdf((EVIDENCE + PATIENT * (a - b) + PROCESS * (c - d)) / np.sqrt(2))
        for a, b, c, d in product((0, 1), repeat=4)
    )


def hips(seed, n):
    rng = np.random.default_rng(seed)
    fracture = (np.arange(n) % 2).astype(float)
    patient, process = (rng.random(n) < np.where(fracture == 1, GOES, 1 - GOES) for _ in range(2))
    score = EVIDENCE * fracture + PATIENT * patient + PROCESS * process + rng.normal(size=n)
    return fracture, score, patient.astype(float), process.astype(float)


def test_the_closed_form_has_badgeleys_three_areas():
    assert [round(area(*given), 2) for given in ((TIED, TIED), (EVEN, TIED), (EVEN, EVEN))] == [0.78, 0.67, 0.52]


def test_reweighting_takes_the_area_down_as_badgeley_found_it():
    n = 40_000
    fracture, score, patient, process = hips(0, n)
    every = range(n)
    pooled = auc(fracture, score, every, n)
    balanced = reweighted_auc(fracture, score, patient, every, n)
    both = reweighted_auc(fracture, score, 2 * patient + process, every, n)
    for found, expected in zip((pooled, balanced.estimate, both.estimate), (0.78, 0.67, 0.52), strict=True):
        assert found.value == pytest.approx(expected, abs=0.01)
        assert found.lower < expected < found.upper
        assert found.upper - found.lower < 0.03
    assert both.positives < balanced.positives < n / 2  # balancing more is worth fewer cases
    inside = within_auc(fracture, score, 2 * patient + process, every, n)
    assert inside.value == pytest.approx(norm.cdf(EVIDENCE / np.sqrt(2)), abs=0.012)  # nothing but the evidence is left


def test_intervals_of_the_three_areas_cover_them_in_few_cases():
    held = np.zeros(3)
    for seed in range(150):
        fracture, score, patient, process = hips(seed, 400)
        found = (
            auc(fracture, score, range(400), 400),
            reweighted_auc(fracture, score, patient, range(400), 400).estimate,
            reweighted_auc(fracture, score, 2 * patient + process, range(400), 400).estimate,
        )
        held += [
            e.lower <= area(*w) <= e.upper
            for e, w in zip(found, ((TIED, TIED), (EVEN, TIED), (EVEN, EVEN)), strict=True)
        ]
    assert (held / 150 >= 0.91).all()


def test_the_process_fails_and_the_patient_is_shown_and_never_judged():
    n = 2000
    fracture, score, patient, process = hips(1, n)
    outcome = within_attribute.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, range(n))),
                columns={Column(condition="clean", level="", finding="fracture"): score.astype(np.float32)},
                quantities={},
            ),
            findings=("fracture",),
            labels=fracture[:, None],
            patients=np.arange(n),
            metadata={"process": [*map(str, process)], "patient": [*map(str, patient)]},
            roles={"process": "nuisance", "patient": "risk_factor"},
        ),
        check_spec("shortcut.within-attribute", {}),
    )
    by_column = {item.criterion.subgroup: item.criterion for item in outcome.judged}
    assert by_column["process"].verdict is Verdict.FAIL
    assert by_column["patient"].verdict is Verdict.INFORMATIONAL
    assert by_column["patient"].harm.lower > 0.02


@pytest.mark.parametrize(
    ("explains", "published"), [("body-mass index", 0.55), ("disease", 0.61), ("breast density", 0.61)]
)
def test_what_goes_with_an_attribute_explains_no_more_than_gichoya_found(explains, published):
    """Gichoya et al. 2022 (doi:10.1016/S2589-7500(22)00063-2): the area of each for the attribute, counts in closed form."""
    n, gain = 2000, 2 * published - 1  # (1 + TPR - FPR) / 2
    attribute = np.repeat([1.0, 0.0], n // 2)
    shares = 0.5 + gain / 2, 0.5 - gain / 2
    variable = np.concatenate([np.arange(n // 2) < round(share * n / 2) for share in shares]).astype(float)
    found = metadata_auc(attribute, variable, range(n), n, seed=0)
    assert found.value == pytest.approx(published, abs=1e-9)
    assert found.upper < 0.64  # far from what the images tell

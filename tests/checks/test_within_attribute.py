"""Within attribute as it is judged: who can fail, when nothing can be told, and how often the verdict is wrong."""

import numpy as np
import pytest

from robustbench_rad.checks import within_attribute
from robustbench_rad.checks.context import JudgeContext
from robustbench_rad.profile import check_spec
from robustbench_rad.result import Verdict
from robustbench_rad.scores import Column, ScoreTable

CHECK = check_spec("shortcut.within-attribute", {})
N = 2000


def draw(seed, *, n=N, r=0.9, b=1.0):
    """Label, margins with a share b of the marker, and the marker that goes with the label."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.4).astype(float)
    marker = rng.random(n) < np.where(label == 1, r, 1 - r)
    return label, 1.5 * label + rng.normal(size=n) + b * marker, np.where(marker, "A", "B")


def outcome(label, margins, role="nuisance", patients=None, **columns):
    return within_attribute.judge(
        JudgeContext(
            scores=ScoreTable(
                cases=tuple(map(str, range(len(label)))),
                columns={Column(condition="clean", level="", finding="f"): np.asarray(margins, np.float32)},
                quantities={},
            ),
            findings=("f",),
            labels=np.asarray(label, float)[:, None],
            patients=np.arange(len(label)) if patients is None else patients,
            metadata={name: [str(value) for value in values] for name, values in columns.items()},
            roles=dict.fromkeys(columns, role),
        ),
        CHECK,
    )


def only(*args, **more):
    (item,) = outcome(*args, **more).judged
    return item.criterion


def test_a_shortcut_that_goes_with_the_label_fails_and_says_how_to_confirm_it():
    label, margins, scanner = draw(0)
    criterion = only(label, margins, scanner=scanner)
    assert criterion.verdict is Verdict.FAIL
    assert "physically changes the evidence is possible too: confirm with masked anatomy" in criterion.reason
    assert "re-weighted AUROC 0.8" in criterion.reason


def test_a_fair_model_on_the_same_data_does_not_fail_and_passes_with_enough_cases():
    label, margins, scanner = draw(1, n=20_000, b=0)
    assert only(label, margins, scanner=scanner).verdict is Verdict.PASS


def test_a_column_that_does_not_go_with_the_label_is_not_powered_whatever_the_model_does():
    label, margins, scanner = draw(2, r=0.5, b=3.0)
    criterion = only(label, margins, scanner=scanner)
    assert criterion.verdict is Verdict.INCONCLUSIVE
    assert "not powered: scanner is not shown to go with the label" in criterion.reason


@pytest.mark.parametrize("role", ["risk_factor", "demographic"])
def test_only_a_nuisance_column_can_fail(role):
    label, margins, scanner = draw(0)
    missing, shown = (item.criterion for item in outcome(label, margins, role, scanner=scanner).judged)
    assert "no nuisance column" in missing.reason
    assert missing.verdict is Verdict.INCONCLUSIVE
    assert shown.verdict is Verdict.INFORMATIONAL
    assert shown.harm.lower > 0.02


def test_a_continuous_column_is_cut_into_fifths():
    rng = np.random.default_rng(3)
    label = (rng.random(N) < 0.4).astype(float)
    spacing = np.round(0.14 + 0.02 * label + 0.01 * rng.normal(size=N), 4)
    criterion = only(label, label + rng.normal(size=N) + 100 * (spacing - 0.15), spacing=spacing)
    assert criterion.verdict is Verdict.FAIL


def test_a_value_with_too_few_of_a_label_is_named():
    label, margins, scanner = draw(4)
    scanner = scanner.copy()
    scanner[:15] = "C"
    label[:12] = 0
    outcome_ = outcome(label, margins, scanner=scanner)
    assert "not powered: C (" in outcome_.judged[0].criterion.reason
    assert outcome_.judged[0].criterion.positives == (label[15:] == 1).sum()
    assert any("not powered: C (" in str(row[-1]) for row in outcome_.tables[0].rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scanner": ["A"] * N}, "1 value with 10 cases or more: two are needed"),
        ({"scanner": [f"s{i % 500}" for i in range(N)]}, "500 different ones: group them"),
        ({"scanner": [""] * N}, "two are needed"),
        ({"margins": np.random.default_rng(0).normal(size=N)}, "no signal"),
        ({"margins": np.zeros(N)}, "no signal"),
        ({"margins": np.full(N, np.inf)}, "NaN or infinity"),
        ({"label": np.ones(N)}, "10 positive and 10 negative patients are needed"),
        ({"label": np.r_[np.ones(15), np.zeros(N - 15)]}, "10 positive and 10 negative patients are needed"),
    ],
    ids=["one value", "500 values", "missing", "no signal", "constant", "infinite", "one class", "few positives"],
)
def test_what_cannot_be_told_is_not_assessable_and_says_why(change, said):
    label, margins, scanner = draw(5)
    criterion = only(**{"label": label, "margins": margins, "scanner": scanner, **change})
    assert criterion.verdict is Verdict.INCONCLUSIVE
    assert criterion.reason.startswith("not assessable: ")
    assert said in criterion.reason


def test_many_images_of_few_patients_do_not_make_a_value():
    label, margins, scanner = draw(7, n=400)
    criterion = only(label, margins, scanner=scanner, patients=np.arange(400) % 9)
    assert "10 positive and 10 negative patients are needed; too few in A (9 positive, 7 negative)" in criterion.reason


def test_no_metadata_says_what_to_declare():
    label, margins, _ = draw(6)
    assert "no nuisance column: declare one" in only(label, margins).reason


@pytest.mark.parametrize("r", [0.5, 0.7, 0.9])
def test_the_verdict_is_seldom_wrong_on_a_fair_model(r):
    drawn = [draw(seed, n=600, r=r, b=0) for seed in range(200 if r == 0.9 else 60)]
    failed = [only(label, margins, scanner=scanner).verdict is Verdict.FAIL for label, margins, scanner in drawn]
    assert np.mean(failed) <= 0.05


def test_a_strong_shortcut_never_passes():
    drawn = [draw(seed, n=600, r=0.9, b=0.8) for seed in range(40)]
    verdicts = [only(label, margins, scanner=scanner).verdict for label, margins, scanner in drawn]
    assert Verdict.PASS not in verdicts
    assert verdicts.count(Verdict.FAIL) > 20

"""Readers, prevalence and costs on their way from the plan to the report."""

import csv

import pytest

from robustbench_rad.audit import run_audit
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.plan import read_plan
from robustbench_rad.profile import read_profile
from robustbench_rad.result import Verdict

DECLARED = """
prevalence = { bright = 0.03 }
cost = { bright = { miss = 20, false_alarm = 1 } }
readers = { bright = ["first", "second"] }
"""


@pytest.fixture
def declared(workshop, edit):
    """The workshop with two readers, of whom the second errs twice, and the informational checks alone."""

    def make(cell="0"):
        path = workshop / "cases.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        for place, row in enumerate(rows):
            row["first"] = row["label"]
            row["second"] = str(1 - int(row["label"])) if place in (4, 5) else row["label"]
        rows[0]["second"] = cell
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        edit('findings = { bright = "label" }', 'findings = { bright = "label" }' + DECLARED)
        profile = (workshop / "profile.toml").read_text()
        head = profile[: profile.index('[checks."attack.fgsm"]')]
        names = ("calibration", "operating-point", "selective-prediction", "readers")
        (workshop / "profile.toml").write_text(head + "\n".join(f'[checks."clean.{name}"]' for name in names))
        return workshop / "plan.toml"

    return make


def test_what_a_plan_declares_is_shown(declared, tmp_path):
    result = run_audit(read_plan(declared()), folder=tmp_path / "run").result
    rows = {c.quantity: c for c in result.criteria}
    assert rows["agreement of readers (kappa)"].harm.estimate == pytest.approx(1 - (2 / 36) / 0.5, abs=1e-3)
    assert "PPV at a prevalence of 0.03" in rows
    assert "a miss costs 20, a false alarm 1" in rows["expected cost per case"].reason
    shown = [c for c in result.criteria if c.check != "clean.performance"]
    assert {c.verdict for c in shown} == {Verdict.INFORMATIONAL}
    assert result.score.evidence_coverage in (0.0, 1.0)  # of clean.performance alone
    assert "first" not in result.data.metadata


def test_a_readers_cell_that_is_no_label_is_named(declared):
    from robustbench_rad.cases import read_cases

    with pytest.raises(DataError, match=r"column 'second'.* line 2: 'maybe'"):
        read_cases(read_plan(declared("maybe")))


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ('{ dark = ["a", "b"] }', "'dark' is not a finding"),
        ('{ bright = ["a"] }', "two readers or more"),
        ('{ bright = ["a", "a"] }', "two readers or more"),
    ],
)
def test_readers_that_cannot_be(workshop, edit, readers, message):
    edit('findings = { bright = "label" }', f'findings = {{ bright = "label" }}\nreaders = {readers}')
    with pytest.raises(PlanError, match=message):
        read_plan(workshop / "plan.toml")


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_every_profile_shows_them(name):
    shown = {"clean.calibration", "clean.operating-point", "clean.selective-prediction", "clean.readers"}
    assert shown <= set(read_profile(name).checks)

"""What a test set could show: filters, waterfalls, subgroups, clusters; by hand and from published planning numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustbench_rad.errors import DataError
from robustbench_rad.planning import (
    Assumptions,
    certify,
    detectable,
    effective_size,
    shift_comparisons,
    shift_tolerance,
)
from robustbench_rad.planning_counts import (
    CountTable,
    fraction_waterfall,
    parse_filter,
    table_of_manifest,
    table_of_plan,
    values_hint,
    waterfall,
)
from robustbench_rad.profile import effective_profile


def count_table(labels, patients=None, **columns):
    labels = np.array(labels, dtype=float).reshape(len(labels), -1)
    patients = np.arange(len(labels)) if patients is None else np.array(patients)
    names = tuple("fg"[: labels.shape[1]])
    return CountTable(findings=names, labels=labels, patients=patients, columns=columns)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a = 1", "1 1.0"),
        ("a == 1", "1 1.0"),
        ("a=PA|1", "1 1.0 PA"),
        ("a != 1", "PA 20 -"),
        ("a != 1 | PA", "20 -"),
        ("a >= 1", "1 1.0 20"),
        ("a > 1", "20"),
        ("a < 20", "1 1.0"),
        ("a <= 20", "1 1.0 20"),
        ("a =", "-"),
        ("a = pa", ""),
    ],
)
def test_filters(text, kept):
    cells = ["1", "1.0", "PA", "20", ""]
    condition = parse_filter(text)
    assert " ".join(cell or "-" for cell in cells if condition.keeps(cell)) == kept


@pytest.mark.parametrize("text", ["", "view", "= PA", "age > old", "age > 5 | 6", "age <"])
def test_a_filter_that_is_none_is_refused(text):
    with pytest.raises(DataError, match="filter"):
        parse_filter(text)


def test_column_names_may_hold_spaces_and_values_signs():
    condition = parse_filter("Patient Age = >60")
    assert (condition.column, condition.operator, condition.values) == ("Patient Age", "=", (">60",))


def test_waterfall_counts_cases_patients_and_positives():
    table = count_table(
        [[1, 0], [1, 1], [0, math.nan], [0, 1]], [0, 0, 1, 2], view=["PA", "PA", "PA", "AP"], age=["5", "60", "70", ""]
    )
    steps, left = waterfall(table, [parse_filter("view = PA"), parse_filter("age >= 60")])
    shown = [(s.name, s.cases, s.patients, s.positives, round(s.share, 3)) for s in steps]
    assert shown == [
        ("all cases", 4, 3, (2, 2), 1.0),
        ("view = PA", 3, 2, (2, 1), 0.75),
        ("age >= 60", 2, 2, (1, 1), 0.667),
    ]
    assert left.columns == {"view": ["PA", "PA"], "age": ["60", "70"]}


def test_waterfall_goes_on_after_nothing_is_left():
    table = count_table([1, 0], view=["PA", "AP"])
    wrong = parse_filter("view = LL")
    steps, left = waterfall(table, [wrong, parse_filter("view = PA")])
    assert [(s.cases, s.share) for s in steps] == [(2, 1.0), (0, 0.0), (0, 0.0)]
    assert len(left) == 0
    assert values_hint(table, wrong) == "view has 'AP', 'PA'"


def test_unknown_columns_name_the_nearest():
    table = count_table([1, 0], view=["PA", "AP"])
    for use in (lambda: waterfall(table, [parse_filter("veiw = PA")]), lambda: table.groups(["veiw"])):
        with pytest.raises(DataError, match="veiw") as caught:
            use()
        assert caught.value.hint == "Did you mean 'view'?"


def test_published_fraction_waterfall():
    left = fraction_waterfall(377110, [0.65, 0.03, 0.47, 0.16, 0.30, 0.40])
    assert left == pytest.approx([377110, 245121.5, 7353.6, 3456.2, 553.0, 165.9, 66.36], abs=0.05)
    assert left[-1] == pytest.approx(66.36, abs=0.005)


@pytest.mark.parametrize(("start", "share"), [(0, 0.5), (100, 0.0), (100, 1.5), (math.nan, 0.5), (100, math.nan)])
def test_fraction_waterfall_refuses_nonsense(start, share):
    with pytest.raises(DataError, match="waterfall"):
        fraction_waterfall(start, [share])


def test_subgroups_are_values_and_crossings():
    table = count_table([1, 0, 1], sex=["F", "M", "F"], view=["PA", "PA", ""])
    assert list(table.groups(["sex"])) == ["sex F", "sex M"]
    crossed = table.groups(["sex", "view"])
    assert {name: mask.tolist() for name, mask in crossed.items()} == {
        "sex F, view (missing)": [False, False, True],
        "sex F, view PA": [True, False, False],
        "sex M, view PA": [False, True, False],
    }


def test_detectable_numbers_are_the_published_ones():
    """AUROC and sensitivity 0.85, ten negatives per positive, 80 % power."""
    one = detectable((66, 660), (66, 660), Assumptions(comparisons=10))
    assert round(one["auroc_drop"], 3) == 0.054
    assert round(one["auroc_gap"], 3) == 0.120
    assert round(one["sensitivity_gap"], 2) == 0.21
    alone = detectable((66, 660), (66, 660), Assumptions(alpha=0.05 / 10))
    assert one["auroc_drop_joint"] == alone["auroc_drop"]
    assert one["sensitivity_drop_joint"] == alone["sensitivity_drop"]
    assert round(alone["sensitivity_gap"], 2) == 0.29


def test_pairing_is_worth_five_times_the_cases():
    few, more = (detectable((n, 10 * n), (n, 10 * n), Assumptions()) for n in (66, 330))
    assert few["auroc_drop"] == pytest.approx(more["auroc_gap"], rel=0.01)


def test_nothing_is_certified_without_positives_negatives_or_beyond_chance():
    assert set(detectable((0, 10), (5, 5), Assumptions()).values()) == {None}
    bare = detectable((10, 0), (10, 0), Assumptions())
    assert bare["auroc_drop"] is None
    assert bare["sensitivity_drop"] is not None
    few = detectable((3, 3), (3, 3), Assumptions())
    assert few["auroc_gap"] is None  # 0.5 and more: below chance
    assert few["sensitivity_gap"] is None


def test_subgroup_is_held_against_the_rest_and_the_whole_against_its_like():
    rng = np.random.default_rng(1)
    site = np.where(np.arange(400) < 100, "A", "B")
    table = count_table((rng.random(400) < 0.3).astype(float), site=list(site))
    rows = {row.subgroup: row for row in certify(table, [("site",)], assume={"f": Assumptions()})}
    assert list(rows) == ["", "site A", "site B"]
    assert rows["site A"].auroc_gap == rows["site B"].auroc_gap
    assert rows["site A"].auroc_drop > rows["site B"].auroc_drop > rows[""].auroc_drop
    assert rows[""].positives == rows["site A"].positives + rows["site B"].positives
    assert rows["site A"].patients == 100


def test_needed_positives_make_the_joint_drop_the_tolerance():
    labels = [1.0] * 40 + [0.0] * 120
    row = certify(count_table(labels), assume={"f": Assumptions(comparisons=9)})[0]
    n = row.auroc_needed
    at = detectable((n, 3 * n), (n, 3 * n), Assumptions(comparisons=9))
    assert at["auroc_drop_joint"] == pytest.approx(0.05, rel=0.01)
    at = detectable((row.sensitivity_needed, 1), (1, 1), Assumptions(comparisons=9))
    assert at["sensitivity_drop_joint"] == pytest.approx(0.10, rel=0.01)
    without = replace(Assumptions(), auroc_tolerance=None, sensitivity_tolerance=None)
    row = certify(count_table(labels), assume={"f": without})[0]
    assert (row.auroc_needed, row.sensitivity_needed) == (None, None)


def test_a_finding_without_positives_is_shown_not_dropped():
    rows = certify(count_table([[0.0, 1.0], [math.nan, 0.0]]), assume={"f": Assumptions(), "g": Assumptions()})
    assert [(row.finding, row.positives, row.patients) for row in rows] == [("f", 0, 1), ("g", 1, 2)]
    assert (rows[0].auroc_drop, rows[0].auroc_needed, rows[0].sensitivity_drop) == (None, None, None)


def test_several_images_of_a_patient_count_for_less():
    once = certify(count_table([1.0, 0.0] * 50), assume={"f": Assumptions(icc=0.5)})[0]
    patients = np.repeat(np.arange(25), 4)
    often = certify(count_table([1.0, 0.0] * 50, patients), assume={"f": Assumptions(icc=0.5)})[0]
    # Two positive images of each patient at ICC 0.5: a design effect of 1.5.
    expected = detectable((50 / 1.5, 50 / 1.5), (50, 50), Assumptions())
    assert often.auroc_drop == pytest.approx(expected["auroc_drop"])
    assert often.auroc_drop > once.auroc_drop
    assert often.auroc_needed == pytest.approx(1.5 * once.auroc_needed, abs=1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.floats(0, 1))
def test_effective_size_lies_between_one_and_the_images(patients, icc):
    size = effective_size(np.array(patients), icc)
    assert 1 - 1e-9 <= size <= len(patients) + 1e-9
    assert size <= effective_size(np.array(patients), icc / 2) + 1e-9


def test_profile_gives_comparisons_and_tolerances(plan_for):
    profile = effective_profile(plan_for(profile="standard"))
    levels = {"shift.xr.dose": (1, 2, 3), "attack.pgd-linf": (1, 2, 3, 4)}
    assert shift_comparisons(profile, levels, findings=2) == 2 * 3 * 3
    assert shift_comparisons(profile, {}, findings=2) == 1
    both = {**levels, "shift.xr.blur": (1, 2)}
    more = (*profile.checks, replace(profile.check("shift.xr.dose"), id="shift.xr.blur"))
    assert shift_comparisons(replace(profile, checks=more), both, findings=2) == 2 * 3 * 3
    assert shift_comparisons(replace(profile, checks=more, multiplicity="audit"), both, findings=2) == 2 * 3 * (3 + 2)
    assert shift_tolerance(profile, "auroc") == 0.05
    assert shift_tolerance(profile, "sensitivity") == 0.10
    assert shift_tolerance(profile, "hide") is None


def test_a_plans_manifest_is_counted_without_its_images(small_set, tmp_path):
    for image in tmp_path.glob("*.png"):
        image.unlink()
    table = table_of_plan(small_set)
    assert len(table) == 6
    assert len(set(table.patients)) == 4
    assert (table.labels == 1).sum() == 2
    assert np.isnan(table.labels).sum() == 2
    assert table.column("mask")[0] == "mask.png"


def test_a_bare_manifest_names_its_labels(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("who,label,sex\na,1,F\na,0,F\nb,,M\n")
    table = table_of_manifest(path, ["label"], "who")
    assert table.patients.tolist() == [0, 0, 1]
    assert len(set(table_of_manifest(path, ["label"], "").patients)) == 3
    with pytest.raises(DataError, match="label columns"):
        table_of_manifest(path, [], "")
    with pytest.raises(DataError, match=r"'sex'.*expected labels 1, 0"):
        table_of_manifest(path, ["sex"], "")


def test_an_audit_says_what_its_cases_can_certify(workshop):
    """36 films of 30 patients: 24 with one film, 6 with two of the same label; scanners A and B, half each."""
    from robustbench_rad.audit import run_audit
    from robustbench_rad.plan import read_plan

    result = run_audit(read_plan(workshop / "plan.toml"), folder=workshop / "run").result
    rows = {row.subgroup: row for row in result.certifiable}
    assert list(rows) == ["", "scanner A", "scanner B"]
    assert (rows[""].positives, rows[""].negatives, rows[""].patients) == (18, 18, 30)
    assert (rows["scanner A"].positives, rows["scanner B"].positives) == (9, 9)
    assert rows[""].comparisons == 6
    assert (rows[""].auroc_tolerance, rows[""].sensitivity_tolerance) == (0.05, 0.10)
    assert rows[""].auroc == min(result.findings[0].auroc.estimate, 0.99)
    # Three of the fifteen positive patients have two films: m = (12 + 3 * 4) / 18.
    size = 18 / (1 + (24 / 18 - 1) * 0.3)
    expected = detectable((size, size), (size, size), Assumptions(auroc=rows[""].auroc))
    assert rows[""].auroc_drop == pytest.approx(expected["auroc_drop"])

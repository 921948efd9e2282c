"""Published figures that can and cannot hold together; linear programs and searches against brute force."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustbench_rad.consistency import FIGURES, Consistency, Counts, Printed, check_rows, check_sum, examine
from robustbench_rad.consistency.whole_tables import search
from robustbench_rad.errors import DataError


def read(**figures):
    return {name: Printed.read(text) for name, text in figures.items()}


def value(name, table):
    top, bottom = (sum(w * c for w, c in zip(row, table, strict=True)) for row in FIGURES[name])
    return top / bottom if bottom else None


def figure(report, name):
    return next(figure for figure in report.figures if figure.name == name)


def test_hip_fracture_densenet_cannot_hold_together():
    """Printed P .970, R .968, F1 .967; from P and R follows .969 within .9685 and .9695."""
    report = examine(read(precision=".970", recall=".968", f1=".967"))
    f1 = figure(report, "f1")
    assert report.verdict is Consistency.IMPOSSIBLE
    assert (round(f1.low, 4), round(f1.high, 4)) == (0.9685, 0.9695)
    assert f1.agrees is False
    assert report.reason == "f1 is printed 0.967; the rest allows 0.9685 to 0.9695"
    assert examine(read(precision=".970", recall=".968", f1=".969")).verdict is Consistency.CONSISTENT


def test_hip_fracture_resnet_cannot_hold_together():
    """Printed P .98, R .95, F1 .958.

    The reachable range has been given as .962 to .967. 2PR/(P+R) gives .9598 to .9698 from two decimals (half-width .005),
    .9643 to .9653 from three (.0005); .962 to .967 is what a half-width of .0025 gives. The printed .958 lies outside all.
    """
    two, three = (examine(read(precision=p, recall=r, f1=".958")) for p, r in ((".98", ".95"), (".980", ".950")))
    for report, low, high in ((two, 0.9598, 0.9698), (three, 0.9643, 0.9653)):
        assert report.verdict is Consistency.IMPOSSIBLE
        assert (figure(report, "f1").low, figure(report, "f1").high) == pytest.approx((low, high), abs=5e-5)
    quarter = [2 * p * r / (p + r) for p, r in ((0.9775, 0.9475), (0.9825, 0.9525))]
    assert quarter == pytest.approx([0.962, 0.967], abs=5e-4)


def test_sums():
    assert check_sum("6952+1676=8643") == (False, "6952 + 1676 = 8628, not 8643 (15 less)")
    assert check_sum("6952 + 1676 = 8628") == (True, "6952 + 1676 = 8628")
    for wrong in ("6952 + 1676", "a + 1 = 2", "1.5 + 1 = 2.5"):
        with pytest.raises(DataError, match="whole numbers"):
            check_sum(wrong)


def test_the_one_table_behind_six_figures_is_found():
    """TN 80, FP 10, FN 5, TP 5."""
    figures = read(accuracy=".85", specificity=".8889", recall=".5", precision=".3333", npv=".9412", f1=".40")
    report = examine(figures, Counts(n=100))
    assert (report.verdict, report.tables, report.example) == (Consistency.CONSISTENT, 1, (5, 10, 5, 80))
    assert examine(figures).verdict is Consistency.CONSISTENT
    assert examine(figures, Counts(n=99)).verdict is Consistency.IMPOSSIBLE


def test_whole_numbers_refuse_what_ratios_allow():
    report = examine(read(recall=".85"), Counts(positives=7, negatives=3))
    assert report.verdict is Consistency.IMPOSSIBLE
    assert report.reason == "no table of whole numbers gives recall 0.85 in these cases"
    assert examine(read(recall=".85"), Counts(positives=66, negatives=3)).tables == 4  # 56 of 66, any FP from 0 to 3


def test_two_figures_that_leave_each_other_free_cannot_be_told():
    report = examine(read(precision=".97", recall=".5"))
    assert report.verdict is Consistency.UNKNOWN
    assert examine({}).verdict is Consistency.UNKNOWN
    assert examine(read(recall=".5", specificity=".9")).verdict is Consistency.UNKNOWN
    # Accuracy lies between recall and specificity.
    report = examine(read(recall=".50", specificity=".90", accuracy=".95"))
    assert report.verdict is Consistency.IMPOSSIBLE
    assert figure(report, "accuracy").high == pytest.approx(0.905)


def test_several_contradictions_name_no_single_culprit():
    report = examine(read(precision=".9", recall=".9", f1=".5", specificity=".9", accuracy=".2"))
    assert report.verdict is Consistency.IMPOSSIBLE
    assert {figure.low for figure in report.figures} == {None}
    assert {figure.agrees for figure in report.figures} == {None}
    assert "leaving out one" in report.reason


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (Counts(n=8643, positives=6952, negatives=1676), "6952 positives and 1676 negatives make 8628, not 8643"),
        (Counts(n=10, positives=11), "11 of one class are more than all 10 cases"),
    ],
)
def test_counts_that_contradict_each_other(counts, reason):
    report = examine(read(recall=".5"), counts)
    assert (report.verdict, report.reason) == (Consistency.IMPOSSIBLE, reason)


def test_large_sets_are_searched_with_class_counts_only():
    figures = read(precision=".970", recall=".968", f1=".969")
    exact = examine(figures, Counts(n=2_000_000, positives=900_000))
    assert exact.tables > 100_000
    rough = examine(figures, Counts(n=2_000_000))
    assert (rough.tables, rough.verdict) == (None, Consistency.CONSISTENT)
    assert "too many" in rough.notes[0]


def test_a_figure_without_a_denominator_fits_nothing():
    assert examine(read(precision="0.00", recall="0.00"), Counts(positives=2, negatives=0)).tables == 0
    assert examine(read(recall="0.5"), Counts(positives=0, negatives=5)).tables == 0
    assert examine(read(f1="0.90", precision="0.00")).verdict is Consistency.IMPOSSIBLE


@pytest.mark.parametrize(
    ("text", "options", "low", "high"),
    [
        ("0.970", {}, 0.9695, 0.9705),
        (".97", {}, 0.965, 0.975),
        (".97", {"decimals": 3}, 0.9695, 0.9705),
        ("97.0", {"percent": True}, 0.9695, 0.9705),
        ("97 %", {}, 0.965, 0.975),
        ("1.00", {}, 0.995, 1.0),
        ("0.00", {}, 0.0, 0.005),
        ("1", {}, 0.5, 1.0),
        ("9.7e-1", {}, 0.965, 0.975),
    ],
)
def test_rounding_intervals(text, options, low, high):
    printed = Printed.read(text, **options)
    assert (printed.low, printed.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-0.1", "1.2", "101%", "0.123456789"])
def test_unreadable_figures_are_refused(text):
    with pytest.raises(DataError, match="expected"):
        Printed.read(text)


def test_decimals_below_what_is_printed_are_refused():
    with pytest.raises(DataError, match="at most 2 decimals"):
        Printed.read("0.970", decimals=2)


tables = st.tuples(*[st.integers(0, 60)] * 4).filter(lambda t: t[0] + t[2] > 0 and t[1] + t[3] > 0)


@settings(max_examples=30, deadline=None)
@given(table=tables, places=st.integers(1, 4), names=st.sets(st.sampled_from(sorted(FIGURES)), min_size=1))
def test_figures_of_a_table_always_hold_together(table, places, names):
    values = {name: v for name in names if (v := value(name, table)) is not None}
    printed = {name: Printed.read(f"{v:.{places}f}") for name, v in values.items()}
    positives, negatives = table[0] + table[2], table[1] + table[3]
    for counts in (None, Counts(positives=positives, negatives=negatives)):
        report = examine(printed, counts)
        assert report.verdict is not Consistency.IMPOSSIBLE
        for reach in report.figures:
            assert reach.low - 1e-6 <= values[reach.name] <= reach.high + 1e-6


@settings(max_examples=25, deadline=None)
@given(
    texts=st.dictionaries(st.sampled_from(sorted(FIGURES)), st.integers(0, 100), min_size=1, max_size=4),
    n=st.integers(1, 14),
)
def test_search_agrees_with_brute_force(texts, n):
    printed = {name: Printed(digits=digits, decimals=2) for name, digits in texts.items()}

    def fits(table):
        values = [(value(name, table), p) for name, p in printed.items()]
        return all(v is not None and p.low - 1e-12 <= v <= p.high + 1e-12 for v, p in values)

    every = (t for t in itertools.product(range(n + 1), repeat=4) if sum(t) == n)
    count = sum(fits(table) for table in every)
    found = search(printed, Counts(n=n))
    assert found.count == count
    assert (found.first is None) == (count == 0)
    if found.first:
        assert fits(found.first)
        assert sum(found.first) == n
    if count:  # ratios include whole numbers
        assert examine(printed).verdict is not Consistency.IMPOSSIBLE


@pytest.fixture
def sheet(tmp_path):
    def write(text):
        path = tmp_path / "table.csv"
        path.write_text(text)
        return path

    return write


def test_rows_of_a_file(sheet):
    path = sheet("Model,PPV,Sensitivity,F1-score,Epochs\nA,.970,.968,.967,4\nB,97.0,96.8,96.9,5\n,.5,,,6\n")
    checked, notes = check_rows(path, {})
    assert [(row.name, row.report.verdict) for row in checked] == [
        ("A", Consistency.IMPOSSIBLE),
        ("B", Consistency.CONSISTENT),
        ("line 4", Consistency.UNKNOWN),
    ]
    assert notes == ["columns not used: Epochs", "B: figures above 1 were read as percent, and so the whole row"]


def test_flags_fill_what_a_file_lacks(sheet):
    path = sheet("name;recall;n\nA;.85;10\nB;.85;\n")
    checked, _ = check_rows(path, {"positives": "7", "n": "66"})
    assert [row.report.verdict for row in checked] == [Consistency.IMPOSSIBLE, Consistency.IMPOSSIBLE]
    assert check_rows(path, {"positives": "20", "n": "66"})[0][1].report.verdict is Consistency.CONSISTENT


def test_a_lone_class_count_is_not_used_and_said(sheet):
    _, notes = check_rows(None, {"recall": ".85", "positives": "7"})
    assert notes == ["one class count alone was not used; give n too"]


BAD_ROWS = {
    "model,epochs\nA,3\n": "no column of figures; the columns are: model, epochs",
    "model,recall,sensitivity\nA,.5,.5\n": "columns recall, sensitivity mean the same",
    "model,recall\nA,high\n": "A: recall: expected a number, got 'high'",
    "model,recall,n\nA,.5,1.5\n": "A: n: expected a whole number, got '1.5'",
    "model,recall\nA,-0.5\n": "A: recall: expected a number from 0 to 1, got '-0.5'",
    "model,recall\nA,970\n": "A: recall: expected a number from 0 to 1, got '970'",
}


@pytest.mark.parametrize("text", BAD_ROWS)
def test_bad_rows_are_named(sheet, text):
    with pytest.raises(DataError, match=re.escape(BAD_ROWS[text])):
        check_rows(sheet(text), {})


def test_nothing_to_check_is_refused():
    with pytest.raises(DataError, match="no figure"):
        check_rows(None, {"n": "5"})
    assert check_rows(None, {}, optional=True) == ([], [])

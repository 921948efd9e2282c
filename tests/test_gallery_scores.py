"""Scores as they are written under pictures, and the case that moves most."""

import math

import numpy as np
import pytest

from robustbench_rad.gallery_scores import CaseScores, probability
from robustbench_rad.scores import CLEAN, Column, ScoreTable

NAN, INF = float("nan"), float("inf")


def told(clean, altered, thresholds=None):
    """Scores of findings ``{name: margins}`` and of levels ``{(level, name): margins}`` under condition c."""
    columns = {Column(condition=CLEAN, level="", finding=name): values for name, values in clean.items()}
    columns |= {Column(condition="c", level=level, finding=name): values for (level, name), values in altered.items()}
    arrays = {column: np.asarray(values, np.float32) for column, values in columns.items()}
    cases = tuple(str(n) for n in range(len(next(iter(arrays.values())))))
    table = ScoreTable(cases=cases, columns=arrays, quantities={})
    return CaseScores(scores=table, thresholds=thresholds or dict.fromkeys(clean, 0.5))


def test_the_case_that_moves_farthest_comes_first_with_its_level_and_finding():
    scores = told(
        {"a": [0, 0, 0], "b": [0, 0, 0]}, {("x", "a"): [1, 2, 0], ("x", "b"): [0, 0, 0], ("y", "b"): [0, -3, 0]}
    )
    first, second = scores.moves("c", ["x", "y"])
    assert (first.row, first.level, first.finding, first.change) == (1, "y", "b", -3.0)
    assert (second.row, second.level, second.finding) == (0, "x", "a")


def test_levels_that_are_not_asked_for_choose_no_case():
    scores = told({"a": [0, 0]}, {("x", "a"): [1, 0], ("placebo", "a"): [0, 9]})
    assert [move.row for move in scores.moves("c", ["x"])] == [0]
    assert scores.moves("c", []) == []


def test_what_was_not_scored_or_gave_no_number_does_not_move():
    scores = told({"a": [0, 0, 0, NAN]}, {("x", "a"): [NAN, INF, 0.5, 1]})
    assert [move.row for move in scores.moves("c", ["x"])] == [2]


def test_rounding_moves_nothing():
    assert told({"a": [1.0]}, {("x", "a"): [1.0 + 1e-5]}).moves("c", ["x"]) == []


@pytest.mark.parametrize("threshold", [0.02, 0.5, 0.9])
def test_a_margin_becomes_the_probability_it_was_made_of(threshold):
    for p in (0.004, 0.3, 0.5, 0.97):
        margin = math.log(p / (1 - p)) - math.log(threshold / (1 - threshold))
        assert float(probability(margin, threshold)) == pytest.approx(p, abs=5e-4)


def test_a_call_flips_at_the_threshold_and_not_at_a_half():
    scores = told({"a": [-0.1, 0.1]}, {("x", "a"): [0.1, 0.2]}, {"a": 0.1})
    assert scores.after("c", "x", "a", 0).flips
    assert not scores.after("c", "x", "a", 1).flips
    assert scores.before("a", 1).text == "0.109, called"
    assert scores.before("a", 0).text == "0.091, not called"


def test_where_the_largest_class_decides_the_margin_is_shown():
    scores = told({"a": [-1.254]}, {("x", "a"): [0.5]}, {"a": NAN})
    assert scores.after("c", "x", "a", 0).text == "margin −1.25 → margin +0.50"
    assert scores.after("c", "x", "a", 0).flips


def test_what_has_no_score_says_so():
    scores = told({"a": [0.0]}, {("x", "a"): [NAN], ("y", "a"): [INF]})
    assert scores.after("c", "x", "a", 0).text == "0.500 → not scored"
    assert scores.after("c", "y", "a", 0).text == "0.500 → no number"
    assert not scores.after("c", "x", "a", 0).flips


def test_of_few_findings_all_are_written_and_the_one_that_moves_most_first():
    scores = told({name: [0.0] for name in "abc"}, {("x", "b"): [-2.0], ("x", "c"): [1.0], ("x", "a"): [NAN]})
    assert scores.written("c", ["x"], 0) == ("b", "c", "a")


def test_of_many_findings_only_the_one_that_moves_most_is_written():
    scores = told({name: [0.0] for name in "abcde"}, {("x", "d"): [-2.0], ("x", "c"): [1.0]})
    assert scores.written("c", ["x"], 0) == ("d",)

"""Agreement of readers: published tables, oracles, and the edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.agreement import cohen_kappa, fleiss_kappa, majority, reader_band
from robustbench_rad.statistics.proportions import wilson

# Fleiss 1971 as commonly reprinted: 10 subjects, 14 raters, 5 categories.
FLEISS = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip


def readings(seed, n=100, error=0.15, images=1):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.random(n) < 0.3, images)
    flips = np.repeat(rng.random((n, 3)) < error, images, axis=0)
    return truth.astype(float), (truth[:, None] ^ flips).astype(float), np.repeat(np.arange(n), images)


def test_fleiss_table():
    ratings = [np.repeat(np.arange(5), counts) for counts in FLEISS]
    assert round(fleiss_kappa(ratings, range(10), 10).value, 3) == 0.210


@given(st.integers(0, 10_000), st.floats(0.05, 0.6))
@settings(max_examples=20, deadline=None)
def test_two_readers_agree_with_scikit_learn(seed, error):
    _, table, patients = readings(seed, 40, error)
    table[0], table[1] = 0, 1
    e = cohen_kappa(table[:, 0], table[:, 1], patients, 40)
    assert e.value == pytest.approx(cohen_kappa_score(table[:, 0], table[:, 1]))
    assert -1 <= e.lower <= e.value <= e.upper <= 1


def test_standard_error_is_the_jackknifes():
    _, table, patients = readings(1, 60)
    for make in (lambda t, p, c: cohen_kappa(t[:, 0], t[:, 1], p, c), fleiss_kappa):
        whole = make(table, patients, 60)
        left = [make(np.delete(table, i, 0), np.arange(59), 59).value for i in range(60)]
        assert whole.standard_error == pytest.approx(np.sqrt(59 / 60 * np.sum((left - np.mean(left)) ** 2)), rel=0.05)


def test_intervals_cover():
    """True kappa of two readers that each err in 15 % of the cases, prevalence 0.3, 4 equal images per patient."""
    agree, share = 0.85**2 + 0.15**2, 0.3 * 0.85 + 0.7 * 0.15
    chance = share**2 + (1 - share) ** 2
    true = (agree - chance) / (1 - chance)
    held = np.zeros(2)
    for seed in range(150):
        _, table, patients = readings(seed, 60, images=4)
        estimates = cohen_kappa(table[:, 0], table[:, 1], patients, 60), fleiss_kappa(table, patients, 60)
        held += [e.lower <= true <= e.upper for e in estimates]
    assert (held / 150 >= 0.90).all()


def test_readers_that_always_agree_are_not_certain_to():
    table = np.repeat([[1.0], [0.0]], 20, axis=0) @ np.ones((1, 2))
    for e in (cohen_kappa(*table.T, range(40), 40), fleiss_kappa(table, range(40), 40)):
        assert e.value == e.upper == 1
        assert e.lower == pytest.approx(1 - 2 * (1 - 0.025 ** (1 / 40)))


def test_unread_cases_are_ignored():
    _, table, patients = readings(2)
    gaps = table.copy()
    gaps[:10, 2] = np.nan
    gaps[10:15] = np.nan
    assert fleiss_kappa(gaps, patients, 100).value == pytest.approx(
        fleiss_kappa(gaps[np.r_[:10, 15:100]], patients[np.r_[:10, 15:100]], 100).value
    )
    one = cohen_kappa(gaps[:, 0], gaps[:, 2], patients, 100)
    assert one.value == pytest.approx(cohen_kappa(table[15:, 0], table[15:, 2], patients[15:], 100).value)


def test_band_of_readers():
    truth = np.r_[np.ones(50), np.zeros(50)]
    table = np.column_stack(
        [np.r_[np.arange(50) < 40, np.arange(50) < 5], np.r_[np.arange(50) < 45, np.arange(50) < 15]]
    )
    band = reader_band(truth, table.astype(float), range(100), 100)
    assert band.sensitivity == (0.8, 0.9)
    assert band.specificity == (0.7, 0.9)
    assert (band.sensitivities[0].lower, band.sensitivities[0].upper) == pytest.approx(wilson(0.8, 50))


def test_a_reader_who_saw_no_positive_is_named():
    truth = np.array([1.0, 1, 0, 0])
    band = reader_band(truth, [[1, np.nan], [1, np.nan], [0, 0], [0, 1]], range(4), 4)
    assert band.sensitivities[1] is None
    assert "no case" in band.reasons[1]
    assert band.sensitivity == (1, 1)


def test_majority_of_the_others():
    table = [[1, 1, 0], [1, 0, 0], [np.nan, 1, 0], [np.nan] * 3]
    assert majority(table)[:2].tolist() == [1, 0]
    assert np.isnan(majority(table)[2:]).all()
    assert majority(table, without=0)[1] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cohen_kappa([1, 1, 1], [1, 1, 1], range(3), 3), "every reading is the same"),
        (lambda: cohen_kappa([1], [1], [0], 1), "two patients"),
        (lambda: fleiss_kappa([[1, np.nan], [np.nan, 0]], [0, 1], 2), "two patients"),
        (lambda: fleiss_kappa([1, 0], [0, 1], 2), "one column per reader"),
        (lambda: reader_band([1, 0], [[2], [0]], [0, 1], 2), "1, 0 or NaN"),
        (lambda: reader_band([1, 0], [[1]], [0, 1], 2), "2 rows"),
    ],
)
def test_refuses_what_it_is_not_defined_for(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()

"""Rankings kept by content: the same one for the same scores, another one for anything else."""

import numpy as np
import pytest

from robustbench_rad.checks.rankings import Rankings
from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import rank

LABELS = np.tile([1.0, 0.0], 10)
SCORES = np.random.default_rng(0).normal(size=20)
PEOPLE = np.arange(20)


def test_what_was_ranked_is_given_again():
    made = Rankings()
    first = made.of(LABELS, SCORES, PEOPLE, 20)
    assert made.of(LABELS.copy(), SCORES.copy(), PEOPLE.copy(), 20) is first
    np.testing.assert_array_equal(first.influence, rank(LABELS, SCORES, PEOPLE, 20).influence)


@pytest.mark.parametrize(
    "changed",
    [
        (1 - LABELS, SCORES, PEOPLE, 20),
        (LABELS, SCORES + 1e-9, PEOPLE, 20),
        (LABELS, SCORES, PEOPLE // 2, 20),
        (LABELS, SCORES, PEOPLE, 21),
        (np.where(PEOPLE < 2, np.nan, LABELS), SCORES, PEOPLE, 20),
    ],
    ids=["labels", "scores", "patients", "their number", "unknown labels"],
)
def test_anything_else_is_ranked_anew(changed):
    made = Rankings()
    made.of(LABELS, SCORES, PEOPLE, 20)
    found, fresh = made.of(*changed), rank(*changed)
    assert found.area == fresh.area
    np.testing.assert_array_equal(found.influence, fresh.influence)


def test_the_ones_unused_for_longest_make_room():
    made = Rankings(most_bytes=2 * 20 * 8)
    first, second = made.of(LABELS, SCORES, PEOPLE, 20), made.of(LABELS, SCORES**3, PEOPLE, 20)
    assert made.of(LABELS, SCORES, PEOPLE, 20) is first
    made.of(LABELS, -SCORES, PEOPLE, 20)
    assert made.of(LABELS, SCORES, PEOPLE, 20) is first
    assert made.of(LABELS, SCORES**3, PEOPLE, 20) is not second


def test_what_cannot_be_ranked_says_so_every_time():
    made = Rankings()
    for _ in range(2):
        with pytest.raises(StatisticsError, match="both classes"):
            made.of(np.ones(20), SCORES, PEOPLE, 20)

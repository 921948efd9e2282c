"""Levels and starts in one batch: the same record for any capacity, full forwards, nothing searched that a flip answers."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from robustbench_rad.attacks import _pool
from robustbench_rad.attacks._climb import Climb
from robustbench_rad.attacks._pool import Capacity
from robustbench_rad.attacks._units import ladder
from robustbench_rad.attacks.apgd_l2 import ApgdL2
from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.momentum_linf import MomentumLinf
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.attacks.pgd_linf import PgdLinf
from robustbench_rad.attacks.worst_case_linf import WorstCaseLinf

NAMES = ("1/255", "2/255", "4/255")
SMALL = {"levels": ladder(*NAMES), "steps": 4, "random_starts": 2}
RMS = SMALL | {"levels": tuple(PgdL2.level(name) for name in NAMES)}
ATTACKS = {
    "pgd-linf": PgdLinf(**SMALL),
    "constant": PgdLinf(**SMALL, step_rule="constant"),
    "full": PgdLinf(**SMALL, full_search=NAMES),
    "mixed": PgdLinf(**SMALL, full_search=("2/255",)),
    "pgd-l2": PgdL2(**RMS),
    "apgd-linf": ApgdLinf(**SMALL),
    "apgd-l2": ApgdL2(**RMS, full_search=("1/255",)),
    "momentum": MomentumLinf(levels=ladder(*NAMES), steps=6, step_size=0.3),
    "samples": MomentumLinf(levels=ladder(*NAMES), steps=4, step_size=0.3, samples=2),
    "members": WorstCaseLinf(levels=ladder(*NAMES), attacks=("attack.fgsm", {"id": "attack.pgd-linf", "steps": 4})),
}
KEPT = ("margins", "steps_to_flip", "zero_gradient", "flipped_by_rounding", "non_finite_margin")


class RowByRow:
    """Asks the model about one plane at a time, so that no number depends on what else is in the batch."""

    def __init__(self, query):
        self.query, self.findings = query, query.findings
        self.asked = []  # rows of each question, and whether a gradient was wanted

    def margins(self, planes):
        self.asked.append((len(planes), False))
        empty = torch.empty(0, len(self.findings))
        return torch.cat([empty, *(self.query.margins(plane[None]) for plane in planes)])

    def margins_and_gradient(self, planes, weights):
        self.asked.append((len(planes), True))
        if not len(planes):
            return torch.empty(0, len(self.findings)), planes.clone()
        pairs = [self.query.margins_and_gradient(plane[None], weights[[row]]) for row, plane in enumerate(planes)]
        return tuple(torch.cat(column) for column in zip(*pairs, strict=True))


@pytest.fixture(scope="module")
def bench(lab, calibrated):
    classifier, images, labels = calibrated(findings=2, cases=5, seed=2)
    labels = labels.clone()
    labels[0, 0], labels[1, 1] = torch.nan, 1 - labels[1, 1]
    return classifier, lab.batch(images, labels)


def record(lab, bench, attack, query=None, **options):
    classifier, batch = bench
    climb = replace(Climb.of(attack, batch, query or RowByRow(lab.SpyQuery(classifier)), None), **options)
    climb.run()
    return climb.record


def asked(lab, bench, attack, **options):
    query = RowByRow(lab.SpyQuery(bench[0]))
    record(lab, bench, attack, query, **options)
    return query.asked


def in_turn(lab, bench, attack, monkeypatch):
    """The record of one level after the other, one start after the other, all targets in step."""
    with monkeypatch.context() as patched:
        patched.setattr(Climb, "_shares_levels", lambda *_: False)
        return record(lab, bench, attack)


CAPACITIES = [(1, 0, 1), (7, 7, 1), (40, 25, 1), (500, 500, 3)]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_record_is_that_of_one_level_and_start_after_the_other_to_the_bit(lab, bench, name, monkeypatch):
    reference = in_turn(lab, bench, ATTACKS[name], monkeypatch)
    for rows, ahead, interval in [(1024, 0, 1), *CAPACITIES]:
        capacity = Capacity(rows=rows, ahead=ahead)
        other = record(lab, bench, ATTACKS[name], capacity=capacity, compact_every=interval)
        for kept in KEPT:
            assert torch.equal(getattr(reference, kept).nan_to_num(99), getattr(other, kept).nan_to_num(99)), kept
        for quantity, values in reference.extra.items():
            assert torch.equal(values.nan_to_num(99), other.extra[quantity].nan_to_num(99)), quantity


class Barrier(torch.nn.Module):
    """Straight lines over the mean shift in parts of 4/255: a step to -2 leaps over the valley that one to -1 lands by."""

    points = ((-2.0, 3.0), (-1.3, -0.1), (-0.7, 1.2), (-0.05, 0.9), (0.0, 0.95), (2.0, 2.95))

    def forward(self, images):
        z = (images.flatten(1).mean(1, keepdim=True) - 0.5) / (4 / 255)
        slopes = [(high - low) / (after - before) for (before, low), (after, high) in pairwise(self.points)]
        margin = 3.0 + slopes[0] * (z + 2.0)
        for (knot, _), (before, after) in zip(self.points[1:-1], pairwise(slopes), strict=True):
            margin = margin + (after - before) * torch.relu(z - knot)
        return margin


def barrier(lab):
    """Cases on which the best plane of the smaller level is better than the whole step of the larger."""
    return lab.classifier(Barrier(), size=(2, 2)), lab.batch(
        torch.full((3, 1, 2, 2), 0.5), torch.ones(3, 1), stored_bits=16
    )


def test_a_guess_that_does_not_hold_is_searched_anew(lab, monkeypatch):
    bench, attack = barrier(lab), PgdLinf(levels=ladder("4/255", "8/255"), random_starts=0)
    reference = in_turn(lab, bench, attack, monkeypatch)
    plain = asked(lab, bench, attack)
    guessing = asked(lab, bench, attack, capacity=Capacity(rows=64, ahead=64))
    assert sum(rows for rows, _ in guessing) > sum(rows for rows, _ in plain)
    other = record(lab, bench, attack, capacity=Capacity(rows=64, ahead=64))
    assert (reference.margins[1] < 0).all()
    for kept in KEPT:
        assert torch.equal(getattr(reference, kept).nan_to_num(99), getattr(other, kept).nan_to_num(99)), kept


def test_with_room_ahead_levels_and_starts_share_their_forwards(lab, bench):
    attack = replace(ATTACKS["pgd-linf"], full_search=NAMES)  # nothing can be answered by a flip
    plain, ahead = (asked(lab, bench, attack, capacity=Capacity(rows=500, ahead=room)) for room in (0, 500))
    assert len(plain) == 2 + 3 * 3 * 4
    assert len(ahead) == 2 + 4
    assert sum(rows for rows, _ in plain) == sum(rows for rows, _ in ahead)


@pytest.mark.parametrize("name", ["pgd-linf", "mixed", "apgd-linf"])
def test_without_room_ahead_no_row_is_paid_for_twice_at_any_capacity(lab, bench, name):
    questions = [asked(lab, bench, ATTACKS[name], capacity=Capacity(rows=rows)) for rows in (1, 6, 500)]
    for gradient in (True, False):
        paid = {sum(rows for rows, with_gradient in one if with_gradient is gradient) for one in questions}
        assert len(paid) == 1


def test_a_flip_takes_what_it_answers_out_of_the_batch(lab, calibrated):
    classifier, images, labels = calibrated(cases=8)
    bench = classifier, lab.batch(images, labels)
    attack = PgdLinf(levels=ladder("4/255", "6/255", "8/255"), steps=20, random_starts=2)
    questions = asked(lab, bench, attack, capacity=Capacity(rows=500, ahead=500))
    rows = [rows for rows, _ in questions]
    assert max(rows[2:]) == 8 * 3 * 3  # all at once
    assert rows[2:] == sorted(rows[2:], reverse=True)
    assert sum(rows) < 0.5 * 8 * 3 * 3 * 20


def test_rows_that_finish_make_room_for_those_that_wait(lab, calibrated, monkeypatch):
    classifier, images, labels = calibrated(findings=4, cases=16, seed=2)
    bench = classifier, lab.batch(images, labels)
    attack = PgdLinf(levels=ladder("4/255", "6/255"), steps=20, random_starts=0, step_rule="constant")
    step, at_once = _pool.Pool._step, []

    def counted(pool):
        at_once.append(sum(len(cohort.stride.front) for cohort in pool._cohorts))
        step(pool)

    monkeypatch.setattr(_pool.Pool, "_step", counted)
    record(lab, bench, attack, capacity=Capacity(rows=16))
    refilled, at_once[:] = list(at_once), []
    record(lab, bench, attack, max_rows=16)
    assert sum(refilled) == sum(at_once)
    assert max(refilled) == 16
    assert min(refilled[: len(refilled) // 2]) > 16 * (1 - 1 / _pool.REFILL)
    assert len(refilled) < 0.75 * len(at_once)


def test_a_capacity_that_does_not_fit_into_memory_is_halved_with_the_same_numbers(lab, bench):
    class Small(RowByRow):
        def margins_and_gradient(self, planes, weights):
            if len(planes) > 20:
                raise torch.OutOfMemoryError("planes")
            return super().margins_and_gradient(planes, weights)

    attack = ATTACKS["pgd-linf"]
    query = Small(lab.SpyQuery(bench[0]))
    options = {"capacity": Capacity(rows=500, ahead=500)}
    other, reference = record(lab, bench, attack, query, **options), record(lab, bench, attack)
    assert max(rows for rows, _ in query.asked) <= 20
    assert options["capacity"] == Capacity(rows=500, ahead=500)  # what was asked for is left as it was
    for kept in KEPT:
        assert torch.equal(getattr(reference, kept).nan_to_num(99), getattr(other, kept).nan_to_num(99)), kept


def test_a_margin_that_is_no_number_is_told_only_where_the_plain_way_meets_it(lab, calibrated, monkeypatch):
    class Cracked(torch.nn.Module):
        """No number beyond a mean shift; rows that are searched in vain must not tell of it."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, planes):
            far = (planes.flatten(1)[:, :40] > 0.99).float().mean(1, keepdim=True) > 0.05
            return torch.where(far, torch.nan, self.inner(planes))

    classifier, images, labels = calibrated(findings=2, cases=12, seed=5)
    cracked = lab.classifier(Cracked(classifier.module), size=(15, 15), findings=2)
    bench = cracked, lab.batch(images.clamp(max=0.98), labels)
    attack = PgdLinf(levels=ladder("1/255", "4/255", "16/255"), steps=5, random_starts=2)
    reference = in_turn(lab, bench, attack, monkeypatch)
    assert 0 < reference.non_finite_margin.mean() < 1
    for rows, ahead in ((1, 0), (500, 500)):
        other = record(lab, bench, attack, capacity=Capacity(rows=rows, ahead=ahead))
        for kept in KEPT:
            assert torch.equal(getattr(reference, kept).nan_to_num(99), getattr(other, kept).nan_to_num(99)), kept

"""Areas with donors: oracles for the weighted area and the two-way variance, coverage, and what cancels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import auc
from robustbench_rad.statistics.donor_swap import (
    Swaps,
    donor_auc,
    donor_permutation_p,
    label_benefit,
    swap_drop,
    two_way,
    weighted_area,
)


def draw(rng, *, n=400, donors=160, levels=3, b=0.0, r=0.7, seam=0.3, images=1):
    """Swapped images of a normal score to which b SD of a marker are added; the clean scores too."""
    patient = np.arange(n) // images
    label = (rng.random(n) < 0.5).astype(float)
    evidence = 1.5 * label + rng.normal(size=n) + (0.7 * rng.normal(size=n)[patient] if images > 1 else 0.0)
    marker = (rng.random(n) < np.where(label == 1, r, 1 - r)) + 0.3 * rng.normal(size=n)
    first = rng.permutation(np.unique(patient, return_index=True)[1])
    bank = np.concatenate([first[label[first] == y][: donors // 2] for y in (1, 0)])
    dealt = bank[np.argsort(rng.random((n, len(bank))), axis=1)[:, :levels]]
    score = evidence[:, None] + b * marker[dealt] + seam * rng.normal(size=(n, levels))
    case, level = np.nonzero(patient[dealt] != patient[:, None])
    donor = dealt[case, level]
    swaps = Swaps(
        scores=score[case, level],
        label=label[case],
        donor_label=label[donor],
        case=case,
        recipient=patient[case],
        donor=patient[donor],
        n_patients=int(patient.max()) + 1,
    )
    return swaps, (evidence + b * marker)[case]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_weighted_area_is_the_weighted_share_of_ordered_pairs(seed):
    rng = np.random.default_rng(seed)
    positive = np.r_[True, False, rng.random(12) < 0.5]
    scores, weights = rng.integers(0, 5, 14).astype(float), np.r_[1.0, 1.0, rng.random(12)]
    area, psi, placement = weighted_area(positive, scores, weights)
    up, down = np.flatnonzero(positive), np.flatnonzero(~positive)
    kernel = (scores[up][:, None] > scores[down]) + 0.5 * (scores[up][:, None] == scores[down])
    pairs = weights[up][:, None] * weights[down]
    assert area == pytest.approx((kernel * pairs).sum() / pairs.sum())
    assert psi[up].sum() == pytest.approx(0, abs=1e-12)
    assert psi[down].sum() == pytest.approx(0, abs=1e-12)
    assert placement[up] == pytest.approx(kernel @ weights[down] / weights[down].sum())


def test_with_a_donor_of_its_own_for_each_case_the_area_and_its_error_are_those_of_delong():
    rng = np.random.default_rng(1)
    n = 300
    label = (rng.random(n) < 0.5).astype(float)
    scores = label + rng.normal(size=n)
    swaps = Swaps(
        scores=scores,
        label=1 - label,
        donor_label=label,
        case=np.arange(n),
        recipient=np.arange(n),
        donor=np.arange(n) + n,
        n_patients=2 * n,
    )
    plain, found = auc(label, scores, np.arange(n), 2 * n), donor_auc(swaps)
    assert found.value == pytest.approx(plain.value)
    assert found.standard_error == pytest.approx(plain.standard_error, rel=0.02)
    assert (found.lower, found.upper) == pytest.approx((plain.lower, plain.upper), abs=2e-3)


def test_the_two_way_variance_is_recipients_plus_donors_minus_single_images():
    rng = np.random.default_rng(2)
    swaps, _ = draw(rng, b=1.0)
    patients = swaps.n_patients
    # Donors who are nobody's recipient, so that no patient is both
    apart = Swaps(**{**vars(swaps), "donor": swaps.donor + patients, "n_patients": 2 * patients})
    _, psi, _ = weighted_area(swaps.donor_label == 1, swaps.scores, np.ones(len(swaps.scores)))
    by = [np.bincount(who, psi) for who in (swaps.recipient, swaps.donor)]
    expected = sum(float(one @ one) for one in by) - float(psi @ psi)
    found = two_way(psi, apart)
    assert float(found @ found) == pytest.approx(expected, rel=0.02)


def test_a_normal_score_has_the_donor_area_of_the_formula():
    rng = np.random.default_rng(3)
    swaps, _ = draw(rng, n=4000, donors=2000, b=2.0, r=0.9)
    # The marker is mixed over donors, the evidence over recipients: a mixture of normals, area by integration over the mixture.
    spread = np.sqrt(1 + 4 * 0.09 + 0.09)
    area = 0.0
    for one, p in ((1, 0.9), (0, 0.1)):
        for other, q in ((1, 0.1), (0, 0.9)):
            for y in (0.0, 1.5):
                for z in (0.0, 1.5):
                    area += p * q / 4 * norm.cdf((y - z + 2 * (one - other)) / (spread * np.sqrt(2)))
    found = donor_auc(swaps)
    assert found.lower < area < found.upper
    assert found.value == pytest.approx(area, abs=0.02)


def test_what_the_seam_costs_is_no_benefit_of_the_surroundings():
    rng = np.random.default_rng(4)
    swaps, clean = draw(rng, n=3000, donors=500, seam=2.0)
    benefit, drop = label_benefit(swaps), swap_drop(swaps, clean)
    assert drop.lower > 0.1
    assert benefit.lower < 0 < benefit.upper < 0.03


@pytest.mark.parametrize(("b", "images"), [(0.0, 1), (1.0, 1), (1.0, 4)])
def test_intervals_cover_what_they_should(b, images):
    rng = np.random.default_rng(5)
    found = []
    for _ in range(120):
        swaps, clean = draw(rng, b=b, images=images)
        found.append([donor_auc(swaps), label_benefit(swaps), swap_drop(swaps, clean)])
    truth = np.mean([[one.value for one in row] for row in found], axis=0)
    covered = np.mean([[e.lower <= t <= e.upper for e, t in zip(row, truth, strict=True)] for row in found], axis=0)
    assert (covered >= 0.90).all(), covered


def test_without_clustering_by_donor_the_interval_would_be_too_narrow():
    rng = np.random.default_rng(6)
    found, naive = [], []
    for _ in range(80):
        swaps, _ = draw(rng, donors=40, b=1.5)
        found.append(donor_auc(swaps).value)
        naive.append(auc(swaps.donor_label, swaps.scores, swaps.recipient, swaps.n_patients).standard_error)
    assert np.std(found) > 1.5 * np.mean(naive)


def test_a_score_that_the_swap_leaves_alone_has_an_exact_limit():
    rng = np.random.default_rng(7)
    swaps, clean = draw(rng, seam=0.0)
    benefit, drop = label_benefit(swaps), swap_drop(swaps, clean)
    assert drop.value == pytest.approx(0, abs=1e-12)
    assert benefit.value == pytest.approx(0, abs=1e-12)
    assert -0.06 < benefit.lower < 0 < benefit.upper < 0.06


def test_few_donors_or_patients_of_a_label_are_not_powered():
    rng = np.random.default_rng(8)
    swaps, clean = draw(rng, donors=16)
    for estimate in (donor_auc, label_benefit, lambda s: swap_drop(s, clean)):
        with pytest.raises(StatisticsError, match=r"not powered: 8 donors with and 8 without"):
            estimate(swaps)


def test_the_permutation_p_holds_its_level_whatever_donors_do_that_has_nothing_to_do_with_their_label():
    """Surroundings move the score by 1 SD (r = 0.5: as much with as without the finding), and a donor serves many images."""
    few = [
        donor_permutation_p(draw(np.random.default_rng(seed), n=200, donors=40, b=b, r=0.5)[0], seed=seed, draws=199)
        for seed in range(200)
        for b in (0.0, 1.0)
    ]
    for p in (np.array(few[::2]), np.array(few[1::2])):
        assert 0.05 < (p <= 0.1).mean() < 0.16
        assert 0.42 < p.mean() < 0.58


def test_a_marker_that_goes_with_the_donors_label_has_the_least_p():
    used, _ = draw(np.random.default_rng(0), b=1.5, r=0.9)
    assert donor_permutation_p(used, seed=0, draws=999) == pytest.approx(1 / 1000)
    order = np.random.default_rng(1).permutation(len(used.scores))
    names = ("scores", "label", "donor_label", "case", "recipient", "donor")
    mixed = Swaps(**{name: getattr(used, name)[order] for name in names}, n_patients=used.n_patients)
    assert donor_permutation_p(mixed, seed=0, draws=999) == donor_permutation_p(used, seed=0, draws=999)


def test_equal_scores_have_p_one_and_donors_of_two_labels_are_refused():
    swaps, _ = draw(np.random.default_rng(2))
    flat = Swaps(**{**vars(swaps), "scores": np.zeros(len(swaps.scores))})
    assert donor_permutation_p(flat, seed=0, draws=99) == 1.0
    torn = swaps.donor_label.copy()
    torn[np.flatnonzero(swaps.donor == swaps.donor[0])[0]] = 1 - torn[0]
    with pytest.raises(StatisticsError, match="with and without the finding"):
        donor_permutation_p(Swaps(**{**vars(swaps), "donor_label": torn}), seed=0)

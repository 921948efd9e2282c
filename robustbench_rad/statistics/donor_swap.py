"""Areas under the ROC curve where every case is scored with several donors, and every donor serves several cases.

Two sources of chance, recipients and donors: the variance is clustered both ways (Cameron, Gelbach and Miller).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from robustbench_rad.errors import StatisticsError
from robustbench_rad.statistics.auc import Ranking, difference_of_rankings, interval
from robustbench_rad.statistics.clusters import effective_size
from robustbench_rad.statistics.estimate import Estimate, student
from robustbench_rad.statistics.permutation import DRAWS

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEWEST = 10
"""Donors of a label below which nothing can be said of donors in general."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Swaps:
    """M images, each the anatomy of a case in the surroundings of a donor.

    Attributes:
        scores: ``(M,)``.
        label: ``(M,)`` of the case, 1 or 0.
        donor_label: ``(M,)`` of the donor, 1 or 0.
        case: ``(M,)`` number of the case.
        recipient: ``(M,)`` patient of the case, ``0 .. n_patients - 1``.
        donor: ``(M,)`` patient of the donor, likewise.
        n_patients: C.
    """

    scores: Floats
    label: Floats
    donor_label: Floats
    case: Indices
    recipient: Indices
    donor: Indices
    n_patients: int

    def check(self) -> None:
        """Refuse what is not powered.

        Raises:
            StatisticsError: Too few donors, or too few patients, of a label.
        """
        for name, who, label in (("donors", self.donor, self.donor_label), ("patients", self.recipient, self.label)):
            counts = [len(np.unique(who[label == y])) for y in (1.0, 0.0)]
            if min(counts) < FEWEST:
                raise StatisticsError(
                    f"not powered: {counts[0]} {name} with and {counts[1]} without the finding; {FEWEST} of each are needed"
                )


def donor_auc(swaps: Swaps, *, confidence: float = 0.95) -> Estimate:
    """How well the score tells the label of the donor: ``AUC(score, donor label)`` over all images.

    Args:
        swaps: The images.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than ten donors or patients of a label.

    References:
        DeLong et al. 1988, doi:10.2307/2531595; Cameron, Gelbach and Miller 2011, Robust inference with multiway
        clustering, doi:10.1198/jbes.2010.07136.
    """
    swaps.check()
    positive = swaps.donor_label == 1
    area, psi, placement = weighted_area(positive, swaps.scores, np.ones(len(positive)))
    sizes = [effective_size(placement[chosen], swaps.donor[chosen]) for chosen in (positive, ~positive)]
    ranking = Ranking(
        area=area,
        positives=sizes[0],
        negatives=sizes[1],
        patients=min(len(np.unique(swaps.donor[chosen])) for chosen in (positive, ~positive)),
        influence=two_way(psi, swaps),
        pairs=min(sizes),
    )
    found = interval(ranking, confidence=confidence)
    return replace(found, method=f"{found.method}, clustered by patient and donor")


def donor_permutation_p(swaps: Swaps, *, seed: int, draws: int = DRAWS) -> float:
    """P-value of a score that goes with the donor's label by chance alone, the labels being dealt anew to the donors.

    Statistic: ``|sum of centred ranks of the score over the images of positive donors|``, two-sided. A donor keeps all its
    images, and with them whatever it does to the score, so neither many images of a donor nor an odd one make a small p. The
    observed labels count as one draw; the least p is ``1 / (draws + 1)``.

    Args:
        swaps: The images.
        seed: Of the permutations.
        draws: Number of permutations.

    Raises:
        StatisticsError: Fewer than ten donors or patients of a label, or a donor with both labels.

    Reference:
        Phipson and Smyth 2010, Permutation p-values should never be zero, doi:10.2202/1544-6115.1585.
    """
    swaps.check()
    ranks = rankdata(swaps.scores) - (len(swaps.scores) + 1) / 2
    place = np.unique(swaps.donor, return_inverse=True)[1]
    share = np.bincount(place, swaps.donor_label) / np.bincount(place)
    if not np.isin(share, (0.0, 1.0)).all():
        raise StatisticsError(
            "a donor has images with and without the finding, so its label cannot be dealt to another"
        )
    total = np.bincount(place, ranks)
    generator = np.random.default_rng(seed)
    dealt = np.array([share, *(generator.permutation(share) for _ in range(draws))])
    told = np.abs(dealt @ total)
    return float((told >= told[0] * (1 - 1e-9)).mean())  # rounding must not undo a tie


def label_benefit(swaps: Swaps, *, confidence: float = 0.95) -> Estimate:
    """AUC that is lost when the surroundings no longer go with the label, without what the swap itself does.

    ``AUC(surroundings of a donor of the same label) - AUC(surroundings of a donor of either label)``, on the cases that have
    donors of both. Both sides have the same seam and are equally unfamiliar, so a model that reads nothing from the
    surroundings loses nothing here, however much the swap disturbs it.

    Args:
        swaps: The images.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than ten donors or patients of a label among the cases that have donors of both.
    """
    cases = int(swaps.case.max(initial=-1)) + 1
    same = swaps.label == swaps.donor_label
    alike, other = (np.bincount(swaps.case[chosen], minlength=cases) for chosen in (same, ~same))
    both = ((alike > 0) & (other > 0))[swaps.case]
    kept = _of(swaps, both)
    kept.check()
    same, positive = same[both], kept.label == 1
    share_alike, share_other = 1.0 / alike[kept.case], 1.0 / np.maximum(other[kept.case], 1)
    first = weighted_area(positive, kept.scores, np.where(same, share_alike, 0.0))
    second = weighted_area(positive, kept.scores, np.where(same, share_alike, share_other) / 2)
    counts = [
        len(np.unique(who[of == y]))
        for y in (1.0, 0.0)
        for who, of in ((kept.donor, kept.donor_label), (kept.recipient, kept.label))
    ]
    if not np.any(np.abs(first[1] - second[1]) > 1e-12):
        same_ranking = Ranking(
            area=first[0],
            positives=counts[1],
            negatives=counts[3],
            patients=min(counts),
            influence=np.zeros(swaps.n_patients),
            pairs=min(counts),
        )
        return difference_of_rankings(same_ranking, same_ranking, confidence=confidence)
    influence = two_way(first[1] - second[1], kept)
    value = first[0] - second[0]
    return student(
        value,
        influence,
        degrees=min(counts) - 1,
        confidence=confidence,
        method="paired, Student, clustered by patient and donor",
    )


def swap_drop(swaps: Swaps, clean: Floats, *, confidence: float = 0.95) -> Estimate:
    """``AUC(clean score, label) - AUC(score after the swap, label)``, paired: what the seam costs is in it.

    Args:
        swaps: The images.
        clean: ``(M,)`` score of the unaltered image of the case.
        confidence: Two-sided confidence level.

    Raises:
        StatisticsError: Fewer than ten donors or patients of a label.
    """
    swaps.check()
    positive, one = swaps.label == 1, np.ones(len(swaps.label))
    first, second = weighted_area(positive, clean, one), weighted_area(positive, swaps.scores, one)
    influence = two_way(first[1] - second[1], swaps)
    value = first[0] - second[0]
    degrees = min(len(np.unique(swaps.recipient[chosen])) for chosen in (positive, ~positive)) - 1
    return student(
        value,
        influence,
        degrees=degrees,
        confidence=confidence,
        method="paired, Student, clustered by patient and donor",
    )


def weighted_area(positive: Mask, scores: Floats, weights: Floats) -> tuple[float, Floats, Floats]:
    """Weighted AUC, ties half; what each item contributes to its deviation; and the placement values.

    Args:
        positive: ``(M,)``.
        scores: ``(M,)``.
        weights: ``(M,)`` 0 or more, some above 0 in either class.

    >>> area, psi, _ = weighted_area(np.array([True, True, False]), np.array([3.0, 1.0, 2.0]), np.array([3.0, 1.0, 1.0]))
    >>> area, psi.round(4).tolist()
    (0.75, [0.1875, -0.1875, 0.0])
    """
    values, place = np.unique(scores, return_inverse=True)
    up, down = (np.bincount(place, weights * chosen, minlength=len(values)) for chosen in (positive, ~positive))
    above, below = up.sum() - np.cumsum(up) + up / 2, np.cumsum(down) - down / 2
    placement = np.where(positive, below[place] / down.sum(), above[place] / up.sum())
    total = np.where(positive, up.sum(), down.sum())
    area = float((placement * weights)[positive].sum() / up.sum())
    return area, np.asarray(weights * (placement - area) / total), np.asarray(placement)


def two_way(psi: Floats, swaps: Swaps) -> Floats:
    """Influence ``(C,)`` of every patient, as recipient and as donor, so that its squares add up to the two-way variance.

    Sums by recipient plus sums by donor; those by donor are shrunk so that their squares are what the donors add beyond the
    single images (the intersection, which both sums contain), and no less than nothing.

    Args:
        psi: ``(M,)`` what each image contributes.
        swaps: Who is in it.
    """
    by_recipient = np.bincount(swaps.recipient, psi, minlength=swaps.n_patients)
    by_donor = np.bincount(swaps.donor, psi, minlength=swaps.n_patients)
    cell = np.unique(swaps.recipient * swaps.n_patients + swaps.donor, return_inverse=True)[1]
    single = np.bincount(cell, psi)
    squared = float(by_donor @ by_donor)
    beyond = max(0.0, squared - float(single @ single))
    shrink = np.sqrt(beyond / squared) if squared > 0 else 0.0
    donors, recipients = (len(np.unique(who)) for who in (swaps.donor, swaps.recipient))
    few, many = _few(donors), _few(recipients)
    total = np.sqrt((swaps.n_patients - 1) / max(swaps.n_patients, 1))
    return np.asarray((many * by_recipient + few * shrink * by_donor) * total)


def _few(clusters: int) -> float:
    return float(np.sqrt(clusters / max(clusters - 1, 1)))


def _of(swaps: Swaps, chosen: Mask) -> Swaps:
    names = ("scores", "label", "donor_label", "case", "recipient", "donor")
    return replace(swaps, **{name: getattr(swaps, name)[chosen] for name in names})

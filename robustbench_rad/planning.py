"""What a test set can certify before any model has seen it: the smallest drop that it would show.

Two questions of every finding and subgroup. The *drop*: the same cases before and after a condition (another dose, an
attack); pairing makes it the cheapest evidence there is. The *gap*: these cases against others (the rest of the set; another
set of the same size). Counts are divided by the design effect where patients give several images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.errors import StatisticsError
from robustbench_rad.planning_counts import CountTable
from robustbench_rad.profile import CheckSpec, Profile
from robustbench_rad.result import Certifiable, Domain
from robustbench_rad.statistics.power import (
    auc_drop_size,
    design_effect,
    detectable_auc_drop,
    detectable_auc_gap,
    detectable_drop,
    detectable_paired_drop,
    mcnemar_size,
)

METRICS = 3  # a shift is judged by AUROC, sensitivity and specificity
Counts = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What must be supposed before there are scores.

    Attributes:
        auroc: AUROC without a condition.
        sensitivity: Sensitivity without a condition.
        correlation: ρ of the AUROC of the same cases with and without a condition.
        gained: Share of positives that a condition turns from missed to found by chance.
        alpha: Level of a two-sided test.
        power: Chance of finding the drop.
        comparisons: Comparisons that are judged together.
        icc: Intraclass correlation of images of one patient; 0.3 is the middle of what was simulated (0 to 0.6).
        auroc_tolerance: δ of an AUROC drop, None where nothing in the profile has one.
        sensitivity_tolerance: δ of a sensitivity drop, likewise.
    """

    auroc: float = 0.85
    sensitivity: float = 0.85
    correlation: float = 0.8
    gained: float = 0.02
    alpha: float = 0.05
    power: float = 0.8
    comparisons: int = 1
    icc: float = 0.3
    auroc_tolerance: float | None = 0.05
    sensitivity_tolerance: float | None = 0.10

    @property
    def joint_alpha(self) -> float:
        """Bonferroni's level: the worst case, for comparisons on the same patients move together."""
        return self.alpha / max(self.comparisons, 1)


def certify(
    table: CountTable, by: Iterable[Sequence[str]] = (), *, assume: Mapping[str, Assumptions]
) -> list[Certifiable]:
    """What the whole set and each subgroup could show, finding by finding.

    Args:
        table: Labels, patients and columns.
        by: Columns whose values are subgroups; several names are one crossing.
        assume: Assumptions of each finding.

    Raises:
        DataError: No such column.
    """
    whole = np.ones(len(table), dtype=bool)
    groups = {"": whole} | {name: mask for names in by for name, mask in table.groups(names).items()}
    return [
        _certify(table, position, mask, subgroup, assume[finding])
        for position, finding in enumerate(table.findings)
        for subgroup, mask in groups.items()
    ]


def _certify(
    table: CountTable, position: int, mask: NDArray[np.bool_], subgroup: str, assume: Assumptions
) -> Certifiable:
    label = table.labels[:, position]
    positive, negative = label == 1, label == 0
    inside = _effective(table, positive & mask, negative & mask, assume.icc)
    # The whole set is held against another one of its size, a subgroup against the rest.
    outside = _effective(table, positive & ~mask, negative & ~mask, assume.icc) if subgroup else inside
    counted = {
        "finding": table.findings[position],
        "subgroup": subgroup,
        "positives": int((positive & mask).sum()),
        "negatives": int((negative & mask).sum()),
        "patients": len(np.unique(table.patients[mask & (positive | negative)])),
        "comparisons": assume.comparisons,
        "auroc": assume.auroc,
        "sensitivity": assume.sensitivity,
        "correlation": assume.correlation,
        "gained": assume.gained,
        "alpha": assume.alpha,
        "power": assume.power,
        "icc": assume.icc,
        "auroc_tolerance": assume.auroc_tolerance,
        "sensitivity_tolerance": assume.sensitivity_tolerance,
    }
    found = detectable(inside, outside, assume)
    return Certifiable.model_validate(counted | found | _needed(table, positive & mask, inside, assume))


def detectable(inside: Counts, outside: Counts, assume: Assumptions) -> dict[str, float | None]:
    """Smallest drops and gaps of AUROC and sensitivity; None where not even a fall to chance, or to 0, would show.

    Args:
        inside: Effective positives and negatives of the group.
        outside: Those of the cases it is held against.
        assume: What is supposed.

    >>> found = detectable((66, 660), (66, 660), Assumptions(comparisons=10))
    >>> {name: value and round(value, 3) for name, value in found.items() if "auroc" in name}
    {'auroc_drop': 0.054, 'auroc_drop_joint': 0.07, 'auroc_gap': 0.12}
    """
    joint = replace(assume, alpha=assume.joint_alpha)
    return {
        "auroc_drop": _auroc_drop(inside, assume),
        "auroc_drop_joint": _auroc_drop(inside, joint),
        "auroc_gap": _auroc_gap(inside, outside, assume),
        "sensitivity_drop": _sensitivity_drop(inside, assume),
        "sensitivity_drop_joint": _sensitivity_drop(inside, joint),
        "sensitivity_gap": _sensitivity_gap(inside, outside, assume),
    }


def _auroc_drop(inside: Counts, assume: Assumptions) -> float | None:
    def drop() -> float:
        return detectable_auc_drop(
            assume.auroc, *inside, correlation=assume.correlation, alpha=assume.alpha, power=assume.power
        )

    return _above_chance(_defined(drop), assume)


def _auroc_gap(inside: Counts, outside: Counts, assume: Assumptions) -> float | None:
    def gap() -> float:
        return detectable_auc_gap(assume.auroc, inside, outside, alpha=assume.alpha, power=assume.power)

    return _above_chance(_defined(gap), assume)


def _sensitivity_drop(inside: Counts, assume: Assumptions) -> float | None:
    def drop() -> float | None:
        return detectable_paired_drop(
            assume.sensitivity, inside[0], gained=assume.gained, alpha=assume.alpha, power=assume.power
        )

    return _defined(drop)


def _sensitivity_gap(inside: Counts, outside: Counts, assume: Assumptions) -> float | None:
    def gap() -> float | None:
        return detectable_drop(assume.sensitivity, inside[0], other=outside[0], alpha=assume.alpha, power=assume.power)

    return _defined(gap)


def _above_chance(drop: float | None, assume: Assumptions) -> float | None:
    return None if drop is None or drop > assume.auroc - 0.5 else drop


def _needed(
    table: CountTable, positive: NDArray[np.bool_], inside: Counts, assume: Assumptions
) -> dict[str, int | None]:
    """Positives, counted as they come, at which a drop of the size of the tolerance would show in all comparisons."""
    images = int(positive.sum())
    effect = images / inside[0] if inside[0] else 1.0
    ratio = inside[1] / inside[0] if inside[0] else 0.0
    alpha, power = assume.joint_alpha, assume.power

    def auroc() -> float | None:
        if assume.auroc_tolerance is None:
            return None
        return effect * auc_drop_size(
            assume.auroc,
            assume.auroc_tolerance,
            negatives_per_positive=ratio,
            correlation=assume.correlation,
            alpha=alpha,
            power=power,
        )

    def sensitivity() -> float | None:
        if not assume.sensitivity_tolerance:
            return None
        return effect * mcnemar_size(
            assume.gained + assume.sensitivity_tolerance, assume.gained, alpha=alpha, power=power
        )

    return {"auroc_needed": _whole(_defined(auroc)), "sensitivity_needed": _whole(_defined(sensitivity))}


def _whole(number: float | None) -> int | None:
    return None if number is None else math.ceil(number - 1e-9)


def _defined(make: Callable[[], float | None]) -> float | None:
    """The number, or None where the formula has none: no positives, no negatives."""
    try:
        return make()
    except StatisticsError:
        return None


def _effective(table: CountTable, positive: NDArray[np.bool_], negative: NDArray[np.bool_], icc: float) -> Counts:
    return effective_size(table.patients[positive], icc), effective_size(table.patients[negative], icc)


def effective_size(patients: NDArray[np.int64], icc: float) -> float:
    """Images worth of independent information: ``n / (1 + (m - 1) ICC)``, m the number of images that an image's patient has.

    ``m = Σ mᵢ² / Σ mᵢ``: with patients of unequal size, each counts as often as it gives images.

    Reference:
        Eldridge, Ashby and Kerry 2006, Sample size for cluster randomized trials: effect of coefficient of variation of
        cluster size and analysis method, doi:10.1093/ije/dyl129.

    >>> effective_size(np.array([1, 2, 3]), 0.5), effective_size(np.array([1, 1, 1, 1]), 0.5)
    (3.0, 1.6)
    """
    if len(patients) == 0:
        return 0.0
    sizes = np.unique(patients, return_counts=True)[1]
    return len(patients) / design_effect(float((sizes**2).sum() / sizes.sum()), icc)


def shift_comparisons(profile: Profile, levels: Mapping[str, Sequence[object]], findings: int) -> int:
    """Comparisons of acquisition shifts that are judged together: findings × levels × three metrics.

    Those of the largest check; those of all where the profile judges all checks together.
    """
    steps = [len(levels.get(check.id, ())) for check in _shifts(profile)]
    together = sum(steps) if profile.multiplicity == "audit" else max(steps, default=0)
    return findings * METRICS * together or 1


def shift_tolerance(profile: Profile, quantity: str) -> float | None:
    """The strictest δ that the profile's acquisition shifts set for ``auroc`` or ``sensitivity``; None without one."""
    return min((check.delta(quantity) for check in _shifts(profile) if quantity in check.tolerance), default=None)


def _shifts(profile: Profile) -> list[CheckSpec]:
    return [check for check in profile.checks if check.enabled and check.domain is Domain.ACQUISITION_SHIFT]

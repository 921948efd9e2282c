"""The scores of a model that has learned an implanted marker, made from what was measured with and without it.

``margin + b SD(margin) * marker seen``, of the image with the marker for the cases that carry it and of the image without
for the others; the same for every image that an audit made of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.checks.context import Floats, JudgeContext
from robustbench_rad.checks.rankings import Rankings
from robustbench_rad.scores import CLEAN, Column
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shortcuts.spike_and_recovery import CLEAN as UNALTERED
from robustbench_rad.shortcuts.spike_and_recovery import MARGINS, SEEN, vector_name

COLUMN = "implanted marker"
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Implanted:
    """Which cases carry the marker, for one finding.

    Attributes:
        check: Check whose vectors hold what was measured.
        finding: Which finding the marker goes with.
        uniform: ``(N,)`` draws in [0, 1), the same for all cases of a patient.
        association: P(marker | finding) = 1 - P(marker | no finding).
        seed: Of the draw.
    """

    check: str
    finding: str
    uniform: Floats
    association: float
    seed: int

    @classmethod
    def dealt(cls, context: JudgeContext, check: str, finding: str, *, association: float, draw: int) -> Self:
        """Deal the marker out, once to each patient: what marks one film of a patient mostly marks the others.

        A patient draws by the first name of its cases, so the order of the cases does not matter.
        """
        seed = derive_seed(context.seed, "implanted", draw)
        order = np.argsort(np.array(context.scores.cases))
        _, first, owner = np.unique(context.patients[order], return_index=True, return_inverse=True)
        drawn = np.empty(len(first))
        drawn[np.argsort(first)] = np.random.default_rng(seed).random(len(first))
        uniform = np.empty(len(order))
        uniform[order] = drawn[owner]
        return cls(check=check, finding=finding, uniform=uniform, association=association, seed=seed)

    def carries(self, label: Floats, uniform: Floats) -> Mask:
        """Who carries the marker; of unknown label, one in two."""
        chance = np.where(np.isnan(label), 0.5, np.where(label == 1, self.association, 1.0 - self.association))
        return np.asarray(uniform < chance)


def implanted(context: JudgeContext, marker: Implanted, strength: float) -> JudgeContext:
    """The context of one finding as if the model had learned the marker.

    Args:
        context: As measured.
        marker: Who carries it.
        strength: b, in SD of the finding's margin.
    """
    finding = marker.finding
    place = context.findings.index(finding)
    clean = context.clean(finding)
    scale = strength * float(np.std(clean[np.isfinite(clean)]))
    carried = marker.carries(context.label(finding), marker.uniform)
    columns = {key: values for key, values in context.scores.columns.items() if key.finding == finding}
    for key, plain in [*columns.items()]:
        name = (UNALTERED, "") if key.condition == CLEAN else (key.condition, key.level)
        marked, seen = (context.vectors(marker.check, vector_name(*name, quantity)) for quantity in (MARGINS, SEEN))
        if seen.size:
            who = _carried_by_donors(context, marker, key) if _has_donors(context, key) else carried
            margins = np.where(who, marked[:, place], plain) + scale * np.where(who, seen[:, 1], seen[:, 0])
            columns[key] = margins.astype(np.float32)
    return replace(
        context,
        findings=(finding,),
        labels=context.labels[:, [place]],
        scores=replace(context.scores, columns=columns),
        metadata={COLUMN: ["with" if one else "without" for one in carried]},
        roles={COLUMN: "nuisance"},
        rankings=Rankings(),
    )


def _has_donors(context: JudgeContext, key: Column) -> bool:
    """Whether the corner of the image is that of a donor."""
    return bool(np.isfinite(context.measured(key.condition, "donor", key.level)).any())


def _carried_by_donors(context: JudgeContext, marker: Implanted, key: Column) -> Mask:
    """Whether the donor of each case carries the marker: every donor draws once, by its number."""
    donor = context.measured(key.condition, "donor", key.level)
    label = context.measured(key.condition, "donor_label", key.level, key.finding)
    number = np.nan_to_num(donor, nan=0.0).astype(np.int64)
    uniform = np.random.default_rng(marker.seed + 1).random(int(number.max()) + 1)
    return marker.carries(label, uniform[number])

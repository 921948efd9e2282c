"""Phantoms as tensors: whole sets for training and measuring, and a lazy torch Dataset for the audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from robustbench_rad.demo.phantoms import SPACING_MM, Phantom, phantom

FINDING = "lesion"
TRAINING_SEED, VALIDATION_SEED, AUDIT_SEED = 101, 202, 303
AUDIT_CASES = 1200
AUDIT_ASSOCIATION = 0.8
"""In the audit set 80 % of the cases with a lesion and 20 % of the others carry a marker: a biased test set.
Without any association a model that reads the marker could not be told from one that does not."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PhantomSet:
    """N phantoms.

    Attributes:
        images: ``(N, 1, H, W)`` float32 in [0, 1], multiples of 1/255.
        labels: ``(N,)`` float32, 1 where there is a lesion.
        patients: ``(N,)`` int64.
        sharp: ``(N,)`` bool: read out by the sharp scanner.
        markers: ``(N,)`` bool: carries a laterality marker.
        lungs: ``(N, 1, H, W)`` bool.
        lesions: ``(N, 1, H, W)`` bool, the outlines.
    """

    images: Tensor
    labels: Tensor
    patients: Tensor
    sharp: Tensor
    markers: Tensor
    lungs: Tensor
    lesions: Tensor
    spacing_mm: float = SPACING_MM

    def __len__(self) -> int:
        return len(self.labels)


def phantom_set(
    seed: int,
    cases: int,
    *,
    association: float = 0.5,
    marker: bool | None = None,
    dose_fraction: float = 1.0,
) -> PhantomSet:
    """The first ``cases`` phantoms of a set; see :func:`robustbench_rad.demo.phantoms.phantom` for the options."""
    return collate(
        [phantom(seed, i, association=association, marker=marker, dose_fraction=dose_fraction) for i in range(cases)]
    )


def collate(phantoms: Sequence[Phantom]) -> PhantomSet:
    """Stack phantoms into tensors."""
    return PhantomSet(
        images=torch.from_numpy(np.stack([p.image for p in phantoms]))[:, None].float() / 255.0,
        labels=torch.tensor([float(p.label) for p in phantoms]),
        patients=torch.tensor([p.patient for p in phantoms]),
        sharp=torch.tensor([p.scanner == "sharp" for p in phantoms]),
        markers=torch.tensor([p.marker for p in phantoms]),
        lungs=torch.from_numpy(np.stack([p.lungs for p in phantoms]))[:, None],
        lesions=torch.from_numpy(np.stack([p.lesions for p in phantoms]))[:, None],
    )


class AuditSet(Dataset[dict[str, Any]]):
    """The demo's test set, drawn case by case when it is asked for."""

    def __init__(self, cases: int = AUDIT_CASES) -> None:
        self.cases = cases

    def __len__(self) -> int:
        return self.cases

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One case as the factory data source wants it: image, labels, names, metadata, mask of the anatomy."""
        if not 0 <= index < self.cases:
            raise IndexError(index)
        drawn = _drawn(index)
        return {
            "image": torch.from_numpy(drawn.image).float() / 255.0,
            "labels": {FINDING: drawn.label},
            "case": f"phantom-{index:04d}",
            "patient": f"patient-{drawn.patient:04d}",
            "metadata": {"scanner": drawn.scanner, "marker": "present" if drawn.marker else "absent"},
            "anatomy": torch.from_numpy(drawn.lungs),
            "spacing_mm": (SPACING_MM, SPACING_MM),
        }


@lru_cache(maxsize=2048)
def _drawn(index: int) -> Phantom:
    return phantom(AUDIT_SEED, index, association=AUDIT_ASSOCIATION)


def audit_set() -> AuditSet:
    """The factory named in the demo's plans."""
    return AuditSet()

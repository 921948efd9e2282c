"""Small physical batches for the shift tests."""

import pytest
import torch

from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.seeds import derive_seed


@pytest.fixture(scope="session")
def physical_batch():
    """Make a batch from images ``(N, 1, …)``; one spacing for all cases, or a tensor of them."""

    def make(images, *, unit, spacing_mm=None, metadata=(), attributes=(), space=Space.PHYSICAL):
        names = tuple(f"case-{index}" for index in range(images.shape[0]))
        spacing = torch.tensor([spacing_mm] * len(names)) if isinstance(spacing_mm, tuple) else spacing_mm
        return Batch(
            images=images,
            labels=torch.zeros(len(names), 1),
            case_ids=names,
            patient_ids=names,
            seeds=tuple(derive_seed(7, name) for name in names),
            space=space,
            unit=unit,
            modality="CT" if unit is Unit.HU else "DX",
            spacing_mm=spacing,
            metadata=metadata,
            attributes=attributes,
        )

    return make


@pytest.fixture(scope="session")
def run():
    """Apply a shift: its variants in a list, and the measurements by (quantity, level)."""

    def apply(shift, batch):
        applied = shift.apply(batch, None, None)
        variants = list(applied.variants)
        return variants, {(m.quantity, m.level): m.values for m in applied.measurements}

    return apply

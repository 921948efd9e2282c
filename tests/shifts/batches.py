"""Small physical batches for the shift tests."""

import torch

from robustbench_rad.conditions import Batch, Space, Unit
from robustbench_rad.seeds import derive_seed


def physical_batch(images, *, unit, spacing_mm=None, metadata=(), names=None, modality=None, space=Space.PHYSICAL):
    count = images.shape[0]
    names = names or tuple(f"case-{index}" for index in range(count))
    spacing = torch.tensor([spacing_mm] * count, dtype=torch.float32) if isinstance(spacing_mm, tuple) else spacing_mm
    return Batch(
        images=images,
        labels=torch.zeros(count, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(7, name) for name in names),
        space=space,
        unit=unit,
        modality=modality or ("CT" if unit is Unit.HU else "DX"),
        spacing_mm=spacing,
        metadata=metadata,
    )


def run(shift, batch):
    """Variants in a list, and the measurements by (quantity, level)."""
    applied = shift.apply(batch, None, None)
    variants = list(applied.variants)
    return variants, {(m.quantity, m.level): m.values for m in applied.measurements}

"""Cases: the labelled test set as a table of records, and one case at a time as a physical image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_rad.conditions import Unit

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What the manifest says of a case.

    Attributes:
        case_id: Unique name.
        patient_id: Patient; the case's own name when none is declared.
        reference: Where the image is, as written in the manifest (``images/1.png``, ``file.npz#12``, a series UID).
        files: Files the image is read from.
        labels: One per finding: 1, 0, or NaN for unknown.
        metadata: Declared metadata columns as text; "" where missing.
        anatomy: Mask file, or None.
        index: Position inside ``files[0]`` for containers (NPZ), else 0.
    """

    case_id: str
    patient_id: str
    reference: str
    files: tuple[Path, ...]
    labels: tuple[float, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    anatomy: Path | None = None
    index: int = 0


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case, decoded.

    Attributes:
        record: Its row.
        image: ``(1, H, W)`` or ``(1, D, H, W)`` float32 in ``unit``, native sampling.
        unit: HU for CT; signal in [0, 1] for radiographs; magnitude for MR.
        stored_bits: Bit depth of the stored pixels.
        spacing_mm: Row, column (slice, row, column for volumes) spacing, or None.
        anatomy: ``(1, H, W)`` boolean mask at native sampling, or None.
        burned_in: True when the file says that it carries burned-in annotation.
    """

    record: CaseRecord
    image: Tensor
    unit: Unit
    stored_bits: int
    spacing_mm: tuple[float, ...] | None = None
    anatomy: Tensor | None = None
    burned_in: bool = False

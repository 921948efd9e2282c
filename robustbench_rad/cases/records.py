"""One case: its row of the manifest, and what was decoded of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from robustbench_rad.conditions import Unit

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.data.images import PhysicalImage
    from robustbench_rad.masks import Box
    from robustbench_rad.misfits import Misfit


@dataclass(frozen=True, kw_only=True)
class TissueFile:
    """A map of the brain's tissues.

    Attributes:
        path: The file.
        numbers: What it has for fluid, grey matter and white matter.
    """

    path: Path
    numbers: tuple[int, ...]


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
        lesion: Mask file of its lesions, or None.
        tissue: Map of its tissues, or None.
        boxes: Boxes around its lesions; empty: it has none; None: not said.
        index: Position inside ``files[0]`` for containers (NPZ), else 0.
        spacing_mm: Declared row and column spacing; None: what the file says.
    """

    case_id: str
    patient_id: str
    reference: str
    files: tuple[Path, ...]
    labels: tuple[float, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    anatomy: Path | None = None
    lesion: Path | None = None
    tissue: TissueFile | None = None
    boxes: tuple[Box, ...] | None = None
    index: int = 0
    spacing_mm: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case, decoded.

    Attributes:
        record: Its row.
        image: ``(1, H, W)`` or ``(1, D, H, W)`` float32 in ``unit``, native sampling.
        unit: HU for CT; signal in the model's declared range for radiographs; magnitude for MR.
        stored_bits: Bit depth of the stored pixels.
        spacing_mm: Row, column (slice, row, column for volumes) spacing, or None.
        anatomy: Boolean mask of the shape of ``image`` at native sampling, or None.
        anatomy_at_input: Boolean mask of an atlas at the size of the model's input, the same for all cases; None: what
            ``anatomy`` becomes at that size.
        lesion: Boolean mask of the lesions, as ``anatomy``; all False: the case has none; None: it is not said where they are.
        tissue: uint8 of the shape of ``image``: 1 fluid, 2 grey matter, 3 white matter, 0 none of them; None: no map.
        burned_in: True when the file says that it carries burned-in annotation.
        attributes: Whitelisted DICOM attributes of the file as text; empty for other formats.
        zero_signal: Value of ``image`` that stands for no signal at all; not 0 for MR scaled by percentiles.
        misfit: Why its mask of the anatomy is left out: it is of another size than the image. None: it has none, or it fits.
    """

    record: CaseRecord
    image: Tensor
    unit: Unit
    stored_bits: int
    spacing_mm: tuple[float, ...] | None = None
    anatomy: Tensor | None = None
    anatomy_at_input: Tensor | None = None
    lesion: Tensor | None = None
    tissue: Tensor | None = None
    burned_in: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    zero_signal: float = 0.0
    misfit: Misfit | None = None


class Reader(Protocol):
    """How the cases of one source are decoded; picklable, so that worker processes can do it."""

    def read(self, record: CaseRecord) -> PhysicalImage:
        """Decode one case."""
        ...

    def fingerprint(self, record: CaseRecord) -> str:
        """SHA-256 over the stored image, independent of where it lies."""
        ...


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A case whose image or mask cannot be used, and why."""

    record: CaseRecord
    reason: str

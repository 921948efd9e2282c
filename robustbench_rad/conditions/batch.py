"""What a condition is given: cases of equal shape with all that is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from robustbench_rad.conditions.terms import Space, Unit

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Cases of equal shape on one device.

    Attributes:
        images: ``(N, 1, H, W)`` or ``(N, 1, D, H, W)`` float32 in ``space``; never changed in place.
        labels: ``(N, K)`` float32: 1 positive, 0 negative, NaN unknown.
        case_ids: N names.
        patient_ids: N names, to be compared with each other and for nothing else; an audit gives salted ones.
        seeds: N base seeds, derived from the audit's seed and the case id.
        space: Which space ``images`` is in.
        unit: Unit of physical images; None in the other spaces.
        modality: DICOM modality code (DX, CR, CT, MR, MG, US).
        spacing_mm: ``(N, 2)`` or ``(N, 3)`` row, column (slice, row, column) spacing of ``images``; NaN where unknown.
        anatomy: ``(N, 1, H, W)`` boolean masks of the anatomy in ``space``, or None.
        anatomy_misfit: N times whether the case came with a mask of the anatomy of another size than its image, which is left
            out; or empty for none.
        lesion: ``(N, 1, H, W)`` boolean masks of the lesions in ``space``, or None when no case says where its lesions are;
            an empty mask is either "no lesion" or "not said", see ``lesion_known``.
        lesion_known: N times whether the case says where its lesions are, so that an empty mask means that it has none.
        limits: Physical values, in ``limits_unit``, of image values 0 and 1: in display space the window in HU or the
            declared range, in stored space the storage range. (0, 1) and without meaning in physical space, whose images
            are physical values already.
        limits_unit: Unit of ``limits``, whatever the space; None when it is not known.
        on_grid: In stored space, N times whether the image consists of grey levels of ``stored_bits`` bits. Where it does
            not (a radiograph behind a DICOM window, MR scaled by percentiles, CT in fractions of a HU), an image rounded
            to them can be kept in a file, but not in this one.
        stored_bits: Bit depth of the stored image, for rounding.
        clean_margins: ``(N, K)`` margins of the unaltered images, or None before they are known.
        clean_features: ``(N, F)`` penultimate features of the unaltered images, for a condition that ``reads_features``; None
            where the model gives no access to its layers.
        metadata: N mappings of metadata columns.
        attributes: N mappings of whitelisted DICOM attributes, declared in the plan or not; empty for other formats.
        tissue: ``(N, 1, …)`` uint8 maps of physical MR images of the brain: 1 fluid, 2 grey matter, 3 white matter, 0 none of
            them; all 0 for a case without a map. None when no case has one.
        zero_signal: ``(N,)`` value of physical images that stands for no signal at all; None: 0. MR scaled by its percentiles
            has it below 0.
        burned_in: N times whether the file says that text is burned into its pixels, or empty for none. What is learned
            from such a case must not be seen in the image of another.
        audit_seed: The audit's seed, for draws that belong to no case.
    """

    images: Tensor
    labels: Tensor
    case_ids: tuple[str, ...]
    patient_ids: tuple[str, ...]
    seeds: tuple[int, ...]
    space: Space
    unit: Unit | None = None
    modality: str = "DX"
    spacing_mm: Tensor | None = None
    anatomy: Tensor | None = None
    anatomy_misfit: tuple[bool, ...] = ()
    lesion: Tensor | None = None
    lesion_known: tuple[bool, ...] = ()
    limits: tuple[float, float] = (0.0, 1.0)
    limits_unit: Unit | None = None
    on_grid: tuple[bool, ...] = ()
    stored_bits: int = 8
    clean_margins: Tensor | None = None
    clean_features: Tensor | None = None
    metadata: tuple[Mapping[str, str], ...] = ()
    attributes: tuple[Mapping[str, str], ...] = ()
    burned_in: tuple[bool, ...] = ()
    tissue: Tensor | None = None
    zero_signal: Tensor | None = None
    audit_seed: int = 0

    def __len__(self) -> int:
        return len(self.case_ids)

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.images.device

    def select(self, index: Tensor) -> Self:
        """Return the cases at ``index`` (int64), in that order."""
        rows = index.tolist()
        optional = ("spacing_mm", "zero_signal", "tissue", "anatomy", "lesion", "clean_margins", "clean_features")
        tensors = {name: value[index] for name in optional if (value := getattr(self, name)) is not None}
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            case_ids=tuple(self.case_ids[row] for row in rows),
            patient_ids=tuple(self.patient_ids[row] for row in rows),
            seeds=tuple(self.seeds[row] for row in rows),
            metadata=tuple(self.metadata[row] for row in rows) if self.metadata else (),
            anatomy_misfit=tuple(self.anatomy_misfit[row] for row in rows) if self.anatomy_misfit else (),
            burned_in=tuple(self.burned_in[row] for row in rows) if self.burned_in else (),
            on_grid=tuple(self.on_grid[row] for row in rows) if self.on_grid else (),
            lesion_known=tuple(self.lesion_known[row] for row in rows) if self.lesion_known else (),
            attributes=tuple(self.attributes[row] for row in rows) if self.attributes else (),
            **tensors,
        )

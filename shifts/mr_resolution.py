"""A coarser MR acquisition: fewer lines and samples of k-space in the plane, thicker slices across it.

In the plane k-space is cut to its centre and filled up with zeros, so that the matrix stays as it is and a point becomes a
sinc of full width at half maximum 1.207 times the acquired pixel. Across the slices of a volume a Gaussian profile widens the
slice to the target; profiles add in quadrature, the source's profile is as wide as its slices are apart.

References:
    Bernstein, King and Zhou 2004, Handbook of MRI Pulse Sequences, ch. 13.1 (zero filling).
    Haacke et al. 1999, Magnetic Resonance Imaging: Physical Principles and Sequence Design, ch. 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._header import number_text
from robustbench_rad.shifts._inputs import in_plane_spacing_mm, slice_distance_mm
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._mr_inputs import MrShift
from robustbench_rad.shifts._mr_kspace import central_lines, half_width, weighted_lines

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

SINC_FWHM = 1.2067
_SIGMA_PER_FWHM = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


@register(
    id="shift.mr.resolution",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Bernstein, King and Zhou 2004, Handbook of MRI Pulse Sequences; Haacke et al. 1999",
    unit="mm",
)
@dataclass(frozen=True, kw_only=True)
class MrResolution(MrShift):
    """A larger acquired voxel on the same matrix.

    A case whose pixels are as large already in both directions, or whose spacing is unknown, is not applicable. Of a
    volume the slices get as thick as the pixels; of a source with thicker slices they stay. Noise is filtered as the image
    is. Measurements per level: ``acquired_mm_requested``, ``acquired_row_mm`` and ``acquired_column_mm`` (whole lines;
    the source's own where it is coarser), and of volumes ``slice_fwhm_mm``.

    Attributes:
        levels: Acquired voxel in mm, mildest first; 0 is the image itself.
        window: ``none`` or ``hamming`` over the lines that stay.
        through_plane: Whether the slices of a volume get thicker too.
    """

    unit = "mm"
    highest = 100.0

    levels: tuple[Level, ...] = ladder("mm", 1.5, 2, 3, 4, 5)
    window: str = "none"
    through_plane: bool = True

    def __post_init__(self) -> None:
        require_one_of(self, "window", ("none", "hamming"))

    def prepare(self, batch: Batch) -> Alter:
        """Read the spacing of every case."""
        spacing, distance = in_plane_spacing_mm(batch), slice_distance_mm(batch)
        known = spacing.isfinite().all(1)
        planes, gaps = spacing.nan_to_num(1.0).tolist(), distance.tolist()
        deep = self.through_plane and batch.images.ndim == 5 and batch.images.shape[2] > 1

        def alter(target_mm: float) -> Change:
            images, achieved = [], []
            for image, pixel, gap in zip(batch.images, planes, gaps, strict=True):
                coarse, sizes = self._in_plane(image, pixel, target_mm)
                slice_mm = gap
                if deep and 0.0 < gap < target_mm:
                    coarse, slice_mm = thickened(coarse, math.sqrt(target_mm**2 - gap**2) / gap), target_mm
                images.append(coarse)
                achieved.append([*sizes, slice_mm])
            values = batch.images.new_tensor(achieved)
            measured = {
                "acquired_mm_requested": torch.full_like(values[:, 0], target_mm),
                "acquired_row_mm": values[:, 0],
                "acquired_column_mm": values[:, 1],
            }
            if deep:
                measured["slice_fwhm_mm"] = values[:, 2]
            thick = [slice_mm for *_, slice_mm in achieved]
            return Change(
                images=torch.stack(images),
                measured=measured,
                applicable=known & (values[:, :2] > spacing + 1e-6).any(1),
                reason="pixel spacing unknown, or pixels as large already",
                case_attributes=tuple({"SliceThickness": number_text(mm)} if deep and mm > 0 else {} for mm in thick),
            )

        return alter

    def _in_plane(self, image: Tensor, pixel_mm: list[float], target_mm: float) -> tuple[Tensor, list[float]]:
        complex_image, sizes = image, []
        for axis, size in zip((-2, -1), pixel_mm, strict=True):
            count = image.shape[axis]
            half = half_width(count, size / target_mm)
            if size >= target_mm or 2 * half + 1 >= count:
                sizes.append(size)
                continue
            weights = central_lines(count, half, image.device, hamming=self.window == "hamming")
            complex_image = weighted_lines(complex_image, weights, axis)
            sizes.append(size * count / (2 * half + 1))
        return complex_image.abs(), sizes


def thickened(volume: Tensor, fwhm_slices: float) -> Tensor:
    """Convolve ``(1, D, H, W)`` across the slices with a Gaussian; the outermost slices go on as they are."""
    sigma = fwhm_slices * _SIGMA_PER_FWHM
    reach = max(1, math.ceil(4.0 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=volume.device, dtype=volume.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    columns = volume[0].flatten(1).T[:, None]
    wide = functional.pad(columns, (reach, reach), mode="replicate")
    return functional.conv1d(wide, weights[None, None])[:, 0].T.reshape(volume.shape)

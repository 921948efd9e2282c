"""Multi-scale contrast amplification, as the processing of radiograph vendors does it.

The signal is parted into bands an octave wide, differences of Gaussians of σ, 2σ, 4σ … millimetres (a Laplacian pyramid without
its subsampling). Faint contrast b of every band is amplified, strong contrast less so:

    b' = b · (1 + g / (1 + (b / m)²))

g the gain and m a contrast above which the gain fades. What is added has mean zero, so the mean signal is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, per_case_factor
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import AlterValue, ContinuousLadder
from robustbench_rad.shifts._display_curve import exposed
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._radiograph import MillimetreShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "% gain"
_GAINS = ("15", "30", "50", "75", "100")


@register(
    id="shift.xr.vendor-processing",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CR", "DX"),
    reference="Vuylsteke and Schoeters 1994, Multiscale image contrast amplification (MUSICA), 10.1117/12.175090",
    unit="% gain",
)
@dataclass(frozen=True, kw_only=True)
class XrVendorProcessing(ContinuousLadder, MillimetreShift):
    """Stronger processing of detail by another vendor's console.

    Measured per level: ``signal_contrast``, the standard deviation of the signal over that of the source.

    Attributes:
        levels: Gain of faint contrast in %; 0 is the image itself, negative is weaker processing.
        finest_mm: Standard deviation σ of the finest Gaussian.
        octaves: Number of bands; with the default the middle bands, details of about 1 to 20 mm.
        contrast: Contrast m at which the gain has fallen to half, as a share of the scale.
        edge_boost: Share of the gain that the band below the finest Gaussian gets as well (noise and edges).
    """

    neutral: ClassVar[float | None] = 0.0
    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "a gain in %"
    lowest: ClassVar[float] = -90.0
    highest: ClassVar[float] = 700.0

    levels: tuple[Level, ...] = ladder(_UNIT, *_GAINS)
    finest_mm: float = 0.4
    octaves: int = 4
    contrast: float = 0.1
    edge_boost: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("finest_mm", "contrast", "octaves"))
        require_positive(self, ("edge_boost",), zero=True)
        if int(self.octaves) != self.octaves or self.octaves > 8:
            raise ValueError(f"octaves: expected a whole number up to 8, got {self.octaves}")

    def prepare(self, batch: Batch) -> AlterValue:
        """Part the images into bands, once for all levels."""
        spacing, usable, reason = self.spacing_mm(batch)
        added = self._detail(batch.images, spacing)
        kept = exposed(batch.images)
        count = kept.sum((1, 2, 3), keepdim=True).clamp_min(1)
        added = torch.where(kept, added, 0.0)
        added = torch.where(kept, added - added.sum((1, 2, 3), keepdim=True) / count, 0.0)
        source = batch.images.detach().flatten(1).std(1, correction=0)

        def alter(percent: Value) -> Change:
            images = (batch.images + per_case_factor(percent / 100.0, added) * added).clamp(0.0, 1.0)
            contrast = images.detach().flatten(1).std(1, correction=0) / source
            return Change(images=images, measured={"signal_contrast": contrast}, applicable=usable, reason=reason)

        return alter

    def _detail(self, images: Tensor, spacing_mm: Tensor) -> Tensor:
        """What a gain of 100 % adds."""
        widths = [self.finest_mm * 2.0**octave for octave in range(int(self.octaves) + 1)]
        smooth = gaussians(images, spacing_mm, widths)
        added = self.edge_boost * compressed(images - smooth[0], self.contrast)
        for fine, coarse in pairwise(smooth):
            added = added + compressed(fine - coarse, self.contrast)
        return added


def gaussians(images: Tensor, spacing_mm: Tensor, widths_mm: Sequence[float]) -> list[Tensor]:
    """Images smoothed by Gaussians of these standard deviations."""
    return [_gaussian(images, spacing_mm, width) for width in widths_mm]


def _gaussian(images: Tensor, spacing_mm: Tensor, width_mm: float) -> Tensor:
    def transfer(vertical: Tensor, horizontal: Tensor) -> Tensor:
        return torch.exp(-2.0 * (math.pi * width_mm) ** 2 * (vertical**2 + horizontal**2))

    return mirrored(images, spacing_mm, transfer, reach=6.0 * width_mm)


def compressed(band: Tensor, contrast: float) -> Tensor:
    """Faint contrast as it is, strong contrast less: ``b / (1 + (b / m)²)``.

    >>> compressed(torch.tensor([0.001, 0.1]), 0.1)
    tensor([0.0010, 0.0500])
    """
    return band / (1.0 + (band / contrast) ** 2)

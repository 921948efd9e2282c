"""A less sharp detector in projection radiography: another scintillator, a storage phosphor, or a larger focal spot.

The spectrum of the exposure is multiplied by the ratio of the transfer functions,

    G(f) = MTF(f; f50 target) / MTF(f; f50 source) · exp(-(π b f)² / (4 ln 2)),      MTF(f; f50) = 1 / (1 + (f / f50)²),

b the full width at half maximum of the focal spot's blur, its size times (magnification - 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.continuous import Value, case_by_case, filled
from robustbench_rad.registry import register
from robustbench_rad.shifts._continuous import AlterValue, ContinuousLadder
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mirror import mirrored
from robustbench_rad.shifts._radiograph import ExposureShift, MillimetreShift
from robustbench_rad.shifts._spectral import lorentzian_mtf

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_UNIT = "per mm"
_REACH_MM = 8.0  # the impulse response at f50 = 0.35 per mm has died away over this distance
_STEPS = 4096


@register(
    id="shift.xr.detector-mtf",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("CR", "DX"),
    reference="Samei et al. 1998, 10.1118/1.598165; Saunders and Samei 2003, Med Phys 30:3006",
    unit="per mm",
)
@dataclass(frozen=True, kw_only=True)
class XrDetectorMtf(ContinuousLadder, ExposureShift, MillimetreShift):
    """Blur of a less sharp detector, signal and noise alike.

    A detector sharper than the source's is not made: the noise it would amplify is not known. Measured per level:
    ``f50_per_mm_requested``, and ``f50_per_mm`` of detector and focal spot together as achieved (NaN when it lies beyond
    what the pixels can hold).

    Attributes:
        levels: Frequency at which the MTF of the detector is 0.5, per mm.
        source_f50_per_mm: The same of the detector that the images were made with (CsI about 1.29).
        focal_spot_mm: Size of a larger focal spot; 0 for none.
        magnification: Of the anatomy for that focal spot.
    """

    unit: ClassVar[str] = _UNIT
    what: ClassVar[str] = "an f50 per mm"
    lowest: ClassVar[float] = 0.05
    highest: ClassVar[float] = 20.0

    levels: tuple[Level, ...] = ladder(_UNIT, "1.1", "0.9", "0.7", "0.5", "0.35")
    source_f50_per_mm: float = 1.29
    focal_spot_mm: float = 0.0
    magnification: float = 1.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("source_f50_per_mm", "magnification"))
        require_positive(self, ("focal_spot_mm",), zero=True)
        if self.magnification < 1.0:
            raise ValueError(f"magnification: expected at least 1, got {self.magnification}")

    @property
    def source_value(self) -> float | None:
        """The source's own detector changes nothing, without a larger focal spot."""
        return None if self.blur_mm else self.source_f50_per_mm

    def is_neutral(self, level: Level) -> bool:
        """The source's own detector, without a larger focal spot."""
        return level.value == self.source_f50_per_mm and self.blur_mm == 0.0

    @property
    def blur_mm(self) -> float:
        """Full width at half maximum of the focal spot's blur, in the plane of the anatomy's image."""
        return self.focal_spot_mm * (self.magnification - 1.0)

    def about(self, batch: Batch) -> list[Measurement]:
        """The source's f50 as it was supposed."""
        supposed = torch.full((len(batch),), self.source_f50_per_mm, device=batch.device)
        return [*super().about(batch), Measurement(quantity="source_f50_per_mm", values=supposed)]

    def prepare(self, batch: Batch) -> AlterValue:
        """Blur the exposure in the plane of the detector."""
        spacing, usable, reason = self.spacing_mm(batch)
        before = self.curve.exposure(batch.images)

        def alter(f50_per_mm: Value) -> Change:
            asked = filled(f50_per_mm, spacing)
            blunter = asked <= self.source_f50_per_mm
            targets = zip(case_by_case(f50_per_mm, len(batch)), blunter.tolist(), strict=True)
            cases = zip(before[:, None], spacing[:, None], targets, strict=True)
            blurred = torch.cat([self._blurred(case, mm, f50) if less else case for case, mm, (f50, less) in cases])
            why = "" if bool(blunter.all()) else "the source is less sharp than the target already"
            return Change(
                images=self.curve.changed(blurred.clamp_min(0.0), before, batch.images),
                measured={
                    "f50_per_mm_requested": asked,
                    "f50_per_mm": self.achieved_f50_per_mm(spacing.amin(1), asked[:, None]),
                },
                applicable=usable & blunter,
                reason=", ".join(filter(None, (reason, why))),
            )

        return alter

    def _blurred(self, exposure: Tensor, spacing_mm: Tensor, f50_per_mm: Value) -> Tensor:
        return mirrored(exposure, spacing_mm, lambda v, u: self.gain(torch.hypot(v, u), f50_per_mm), reach=_REACH_MM)

    def gain(self, frequency_per_mm: Tensor, f50_per_mm: Value) -> Tensor:
        """Target over source transfer function, 1 at zero frequency."""
        target, source = (
            lorentzian_mtf(frequency_per_mm, f50_per_mm=f50) for f50 in (f50_per_mm, self.source_f50_per_mm)
        )
        spot = torch.exp(-((math.pi * self.blur_mm * frequency_per_mm) ** 2) / (4.0 * math.log(2.0)))
        return target / source * spot

    def achieved_f50_per_mm(self, spacing_mm: Tensor, f50_per_mm: Value) -> Tensor:
        """Frequency ``(N,)`` at which source and gain together fall to 0.5; NaN beyond the pixels' Nyquist frequency.

        >>> XrDetectorMtf().achieved_f50_per_mm(torch.tensor([0.2, 2.0]), 0.7)
        tensor([0.7000,    nan])
        """
        steps = torch.arange(1, _STEPS + 1, device=spacing_mm.device) / _STEPS
        frequency = 0.5 / spacing_mm[:, None] * steps
        values = lorentzian_mtf(frequency, f50_per_mm=self.source_f50_per_mm) * self.gain(frequency, f50_per_mm)
        below = values <= 0.5
        after = below.to(torch.int8).argmax(1, keepdim=True).clamp_min(1)
        (low, high), (above, under) = ((x.gather(1, after - 1), x.gather(1, after)) for x in (frequency, values))
        found = low + (high - low) * (above - 0.5) / (above - under)
        return torch.where(below.any(1), found[:, 0], torch.nan)

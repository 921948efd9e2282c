"""A larger patient on the same scan protocol: fewer photons reach the detector, and the noise grows.

ΔD more water in the beam leaves the share ``exp(-µ_w · ΔD)`` of the photons: 4 cm double the variance of the noise. The
anatomy does not grow, and the tube current does not follow; a scanner with automatic exposure control would raise it until it
can raise it no more.

Reference:
    Kim and Kim 2014, Realistic simulation of reduced-dose CT, 10.1118/1.4830431 (the noise).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.registry import register
from robustbench_rad.shifts._fewer_photons import FewerPhotons
from robustbench_rad.shifts._inputs import require_hounsfield, require_physical
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch, ModelQuery, State

_UNIT = "cm more water"


def _size_level(value: float | str) -> Level:
    centimetres = float(value)
    if not 0.0 <= centimetres <= 30.0:
        raise ValueError(f"expected 0 to 30 cm of additional water, got {value}")
    return Level(name=str(value), value=centimetres, unit=_UNIT)


@register(
    id="shift.ct.patient-size",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Kim and Kim 2014, 10.1118/1.4830431",
    unit="cm more water",
)
@dataclass(frozen=True, kw_only=True)
class CtPatientSize(Condition):
    """The noise of a larger patient at the same tube current.

    Attributes:
        levels: Additional water on every ray in cm, mildest first; 0 is the image itself.
        water_attenuation_per_mm: Attenuation µ_w of water (0.0190 at 120 kVp).
        electronic_noise_quanta: Standard deviation of the electronic noise of a reading, in quanta; 0 for none.
    """

    neutral: ClassVar[float | None] = 0.0

    levels: tuple[Level, ...] = tuple(_size_level(centimetres) for centimetres in (2, 4, 6, 8, 10))
    water_attenuation_per_mm: float = 0.0190
    electronic_noise_quanta: float = 10.0

    def __post_init__(self) -> None:
        require_positive(self, ("water_attenuation_per_mm",))
        require_positive(self, ("electronic_noise_quanta",), zero=True)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from centimetres of additional water."""
        return _size_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Add the extra noise of every level to images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU.

        A case without pixel spacing, or without soft tissue to read its noise from, is not applicable and comes back
        unchanged.

        Measurements per level: ``photon_fraction``, ``added_noise_sd_requested_hu`` and ``added_noise_sd_hu`` of the extra
        noise, and ``total_noise_sd_hu`` with it.

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def photon_fraction(self, level: Level) -> float:
        """Share of the photons that are left behind the additional water.

        >>> round(CtPatientSize().photon_fraction(CtPatientSize.level(4)), 3)
        0.468
        """
        return math.exp(-self.water_attenuation_per_mm * 10.0 * level.value)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        photons = FewerPhotons.of(
            batch,
            stream=(self.id, self.version),
            least=min((self.photon_fraction(level) for level in self.levels), default=1.0),
            electronic_noise_quanta=self.electronic_noise_quanta,
        )
        for level in self.levels:
            images, share = batch.images, self.photon_fraction(level)
            if level.value != 0.0:
                images, measured = photons.added_to(images, [share] * len(batch), level)
                values = photons.applicable.new_full((len(batch),), share, dtype=images.dtype)
                measurements += [Measurement(quantity="photon_fraction", values=values, level=level.name), *measured]
            yield Variant(level=level, images=images, applicable=photons.applicable, reason=photons.reason)

"""Another tube voltage: the contrast of bone, iodine and fat, and at the same tube current the noise.

CT numbers change by the table of :mod:`robustbench_rad.shifts._ct_materials`. The tube gives ``(kV / kV₀) ^ 2.5`` of the
photons, of which water of the patient's diameter lets through ``exp(-(µ - µ₀) · D)``.

Reference:
    Bae 2010, Intravenous contrast medium administration and scan timing at CT, 10.1148/radiol.10090908 (iodine and voltage).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Applied, Condition, Level, Measurement, Unit, Variant
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._ct_materials import BRANCHES, KVP, WATER_PER_MM, at_kvp, hu_at_kvp
from robustbench_rad.shifts._fewer_photons import FewerPhotons
from robustbench_rad.shifts._header import header_numbers, number_text
from robustbench_rad.shifts._inputs import per_case, require_hounsfield, require_physical
from robustbench_rad.shifts._levels import require_one_of, require_positive
from robustbench_rad.shifts._planes import gaussian_in_plane, reconstructed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch, ModelQuery, State

_SMOOTH_PX = 1.5
_OUTPUT_EXPONENT = 2.5


def _kvp_level(value: float | str) -> Level:
    kvp = float(value)
    if not KVP[0] <= kvp <= KVP[-1]:
        raise ValueError(f"expected a tube voltage from {KVP[0]:g} to {KVP[-1]:g} kVp, got {value}")
    return Level(name=str(value), value=kvp, unit="kVp")


@register(
    id="shift.ct.kvp",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="Bae 2010, 10.1148/radiol.10090908",
    unit="kVp",
)
@dataclass(frozen=True, kw_only=True)
class CtKvp(Condition):
    """The same scan at another tube voltage.

    A case that was scanned at the level's voltage comes back as it is.

    Attributes:
        levels: Tube voltages from 70 to 140 kVp, in the order of the change from 120 kVp.
        branch: What is denser than 100 HU: ``bone``, ``iodine``, or ``mix`` (iodine below 300 HU, bone above 600 HU).
        source_kvp: Tube voltage of the images where the file does not say it.
        exposure: ``same-mas`` (fewer photons at a lower voltage; more are not simulated) or ``adapted`` (the tube current is
            raised until the noise is the same).
        patient_diameter_mm: Water-equivalent diameter that the noise is reckoned for.
        iodine_background_hu: CT number of blood or organ without iodine.
        electronic_noise_quanta: Standard deviation of the electronic noise of a reading, in quanta; 0 for none.
    """

    levels: tuple[Level, ...] = tuple(_kvp_level(kvp) for kvp in (140, 100, 90, 80, 70))
    branch: str = "bone"
    source_kvp: float = 120.0
    exposure: str = "same-mas"
    patient_diameter_mm: float = 240.0
    iodine_background_hu: float = 40.0
    electronic_noise_quanta: float = 10.0

    def __post_init__(self) -> None:
        require_one_of(self, "branch", BRANCHES)
        require_one_of(self, "exposure", ("same-mas", "adapted"))
        require_positive(self, ("source_kvp", "patient_diameter_mm"))
        require_positive(self, ("iodine_background_hu", "electronic_noise_quanta"), zero=True)
        if not KVP[0] <= self.source_kvp <= KVP[-1]:
            raise ValueError(f"source_kvp: expected {KVP[0]:g} to {KVP[-1]:g} kVp, got {self.source_kvp}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a tube voltage in kVp."""
        return _kvp_level(value)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Change the CT numbers and the noise of images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU.

        Differentiable; padding stays as it is, nothing is clipped. With ``same-mas`` a case without pixel spacing, or whose
        noise cannot be read, is not applicable; nor is one whose file names a voltage beyond 70 to 140 kVp.

        Measurements: ``source_kvp``, ``source_kvp_assumed`` (1 where the file does not say it); per level
        ``photon_fraction``, ``added_noise_sd_requested_hu`` and ``added_noise_sd_hu`` of the extra noise, and
        ``total_noise_sd_hu`` with it.

        Raises:
            DataError: Not HU in physical space, or of another shape.
            ImageError: NaN pixels, or values scaled to [0, 1].
        """
        del query, state
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, measurements), measurements=measurements)

    def _variants(self, batch: Batch, measurements: list[Measurement]) -> Iterator[Variant]:
        said = header_numbers(batch, "KVP")
        sources = [self.source_kvp if math.isnan(kvp) else kvp for kvp in said]
        known = torch.tensor([KVP[0] <= kvp <= KVP[-1] for kvp in sources], device=batch.device)
        sources = [kvp if good else self.source_kvp for kvp, good in zip(sources, known.tolist(), strict=True)]
        measurements += [
            Measurement(quantity="source_kvp", values=torch.tensor(sources, device=batch.device)),
            Measurement(quantity="source_kvp_assumed", values=torch.tensor(said, device=batch.device).isnan().float()),
        ]
        photons = self._photons(batch)
        applicable = known if photons is None else known & photons.applicable
        reasons = ("" if bool(known.all()) else "tube voltage beyond 70 to 140 kVp", photons.reason if photons else "")
        for level in self.levels:
            same = torch.tensor([kvp == level.value for kvp in sources], device=batch.device)
            changed = applicable & ~same
            images = batch.images
            if bool(changed.any()):
                images, measured = self._at(batch, sources, photons, level)
                images = torch.where(per_case(changed, images), images, batch.images)
                measurements += measured
            header = tuple({} if row else {"KVP": number_text(level.value)} for row in same.tolist())
            yield Variant(
                level=level,
                images=images,
                applicable=applicable,
                reason=", ".join(filter(None, reasons)),
                case_attributes=header,
            )

    def _photons(self, batch: Batch) -> FewerPhotons | None:
        if self.exposure == "adapted":
            return None
        least = min((self.photon_fraction(KVP[-1], level.value) for level in self.levels), default=1.0)
        return FewerPhotons.of(
            batch,
            stream=(self.id, self.version),
            least=least,
            electronic_noise_quanta=self.electronic_noise_quanta,
        )

    def _at(
        self, batch: Batch, sources: Sequence[float], photons: FewerPhotons | None, level: Level
    ) -> tuple[Tensor, list[Measurement]]:
        """All cases at the level's voltage, and what was done to their noise."""
        inside = reconstructed(batch.images)
        smooth = gaussian_in_plane(torch.where(inside, batch.images, physics.AIR_HU), sigma_px=_SMOOTH_PX)
        changed = [
            hu_at_kvp(
                image,
                blurred,
                source=kvp,
                target=level.value,
                branch=self.branch,
                iodine_background_hu=self.iodine_background_hu,
            )
            for image, blurred, kvp in zip(batch.images, smooth, sources, strict=True)
        ]
        images = torch.where(inside, torch.stack(changed), batch.images)
        if photons is None:
            return images, []
        fractions = [self.photon_fraction(kvp, level.value) for kvp in sources]
        images, measured = photons.added_to(images, fractions, level)
        share = Measurement(quantity="photon_fraction", values=images.new_tensor(fractions), level=level.name)
        return images, [share, *measured]

    def photon_fraction(self, source: float, target: float) -> float:
        """Photons at ``target`` over those at ``source`` kVp, as far as the noise in HU is concerned; at most 1.

        Noise in attenuation is shown over the attenuation of water, which is why its square goes in.

        >>> round(CtKvp().photon_fraction(120.0, 80.0) ** -0.5, 2)
        1.94
        """
        water, source_water = at_kvp(WATER_PER_MM, target), at_kvp(WATER_PER_MM, source)
        photons = math.pow(target / source, _OUTPUT_EXPONENT)
        photons *= math.exp(-(water - source_water) * self.patient_diameter_mm)
        return min(1.0, photons * math.pow(water / source_water, 2))

"""A weaker magnet: less signal for the same noise, and shorter T1, hence another contrast.

    SNR ∝ B₀ at equal bandwidth,      T1 = a (γ B₀ / 2π)ᵇ  (grey matter 1.16 ms, 0.376; white matter 0.71 ms, 0.382)

Noise is added to what the image carries until it is as much as the ratio of the fields asks for, as Rician noise. Contrast
changes as in ``shift.mr.te-tr`` with TR and TE as they were.

References:
    Rooney et al. 2007, Magnetic field and tissue dependencies of human brain longitudinal 1H2O relaxation in vivo,
    10.1002/mrm.21122.
    Marques, Simonis and Webb 2019, Low-field MRI: an MR physics perspective, 10.1002/jmri.26637.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from robustbench_rad import seeds
from robustbench_rad.conditions import Level
from robustbench_rad.noise import noise_sd
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mr_inputs import MrShift, tissue_mean
from robustbench_rad.shifts._mr_weighting import NO_CONTRAST, nodes_of, reweighted, weightings
from robustbench_rad.shifts.mr_snr import noisy_magnitude

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter


@register(
    id="shift.mr.field-strength",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MR",),
    reference="Rooney et al. 2007, 10.1002/mrm.21122",
    unit="T",
)
@dataclass(frozen=True, kw_only=True)
class MrFieldStrength(MrShift):
    """The same protocol of brain MR on a magnet of lower field.

    Approximate: without averaging or a narrower bandwidth, which real low-field protocols have; contrast by the map of the
    tissues where the plan gives one (``[data] tissue``), else by a monotone map of three brightnesses; the shading that a high
    field has is not taken away. A source of the same or a lower field, one whose noise cannot be read, and one with neither a
    map nor three tissues are not applicable.

    Measurements per level: ``tesla_requested``, ``source_tesla``, ``weighting_assumed`` (1 where the header does not give
    field, TR and TE), ``snr_ratio_requested``, ``contrast_ratio`` (brightest over middle tissue, after over before),
    ``contrast_inverted`` (1 where tissues change their order; without a map the image stops at equal brightness),
    ``classified_share`` (of the foreground, 0 without a map) and ``added_noise_sd``.

    Attributes:
        levels: Field strengths in T, mildest first; infinity stands for the image itself.
        source_tesla: Field strength where the header does not say.
        repetition_time_ms: TR where the header does not say.
        echo_time_ms: TE where the header does not say.
        reference_snr: Ratio of the foreground's mean to the noise of the source; 0 to read it from the image.
    """

    unit = "T"
    neutral = math.inf
    lowest = 0.01

    levels: tuple[Level, ...] = ladder("T", 1.5, 1, 0.55, 0.3, 0.064)
    source_tesla: float = 3.0
    repetition_time_ms: float = 500.0
    echo_time_ms: float = 15.0
    reference_snr: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, ("source_tesla", "repetition_time_ms", "echo_time_ms"))
        require_positive(self, ("reference_snr",), zero=True)

    def prepare(self, batch: Batch) -> Alter:
        """Read weighting, tissues and noise of every case, and draw the noise that the levels share."""
        sources, assumed = weightings(
            batch, tesla=self.source_tesla, repetition_ms=self.repetition_time_ms, echo_ms=self.echo_time_ms
        )
        nodes, shape = nodes_of(batch), batch.images.shape[1:]
        own = tissue_mean(batch.images) / self.reference_snr if self.reference_snr else noise_sd(batch.images)
        fields = own.new_tensor([source.tesla for source in sources])
        in_phase, quadrature = (
            seeds.normal(shape, batch.device, batch.seeds, self.id, self.version, name)
            for name in ("real", "imaginary")
        )

        def alter(tesla: float) -> Change:
            images, possible, contrast = reweighted(batch, nodes, sources, [replace(s, tesla=tesla) for s in sources])
            added = own * ((fields / tesla).square() - 1.0).clamp_min(0.0).sqrt()
            noisy = noisy_magnitude(images, per_case(added.nan_to_num(), images), in_phase, quadrature.square())
            measured = {
                "tesla_requested": torch.full_like(own, tesla),
                "source_tesla": fields,
                "weighting_assumed": assumed,
                "snr_ratio_requested": tesla / fields,
                **contrast,
                "added_noise_sd": added,
            }
            return Change(
                images=noisy,
                measured=measured,
                applicable=possible & (fields > tesla) & (own > 0.0),
                reason=f"field as low already, no noise to be read, or {NO_CONTRAST}",
                attributes={"MagneticFieldStrength": f"{tesla:g}"},
            )

        return alter

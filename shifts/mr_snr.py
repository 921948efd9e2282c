"""A lower signal-to-noise ratio in MR: noise of the complex signal, then the magnitude.

Every coil adds Gaussian noise of standard deviation σ to its real and imaginary part. The magnitude of one coil is Rician,
the root of the sum of squares of L coils follows a non-central χ distribution with 2 L degrees of freedom:

    M² = (S + σ z₁)² + σ² (z₂² + … + z₂ₗ²)

The image carries its own noise σ₀ already, so only what is missing is added: σ² = (mean / SNR)² - σ₀².

References:
    Gudbjartsson and Patz 1995, The Rician distribution of noisy MRI data, 10.1002/mrm.1910340618.
    Constantinides et al. 1997, Signal-to-noise measurements in magnitude images from NMR phased arrays,
    10.1002/mrm.1910380524.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_rad import seeds
from robustbench_rad.conditions import Level
from robustbench_rad.continuous import Value, filled, per_case_factor
from robustbench_rad.noise import noise_sd
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._mr_continuous import ContinuousMrShift
from robustbench_rad.shifts._mr_inputs import foreground, masked_variance, tissue_mean

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._continuous import AlterValue

_MOST_COILS = 128


@register(
    id="shift.mr.snr",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("MR",),
    reference="Gudbjartsson and Patz 1995, 10.1002/mrm.1910340618",
    unit="SNR",
)
@dataclass(frozen=True, kw_only=True)
class MrSnr(ContinuousMrShift):
    """Rician noise of one coil, or non-central χ noise of several, down to a signal-to-noise ratio.

    The ratio is the mean magnitude of the foreground over σ of one channel. A case that is as noisy already is not
    applicable; noise that cannot be read from the image counts as none. White noise: no parallel imaging (see
    ``shift.mr.g-factor``), no filter of the reconstruction.

    Measurements per level: ``snr_requested``, ``snr`` (own and added noise in the foreground), ``native_snr`` (of the
    source, NaN where its noise cannot be read) and ``added_noise_sd`` in the unit of the image.

    Attributes:
        levels: Signal-to-noise ratios, mildest first; infinity is the image itself.
        coils: Coils combined by the root of the sum of squares; 1 for a Rician image.
    """

    unit = "SNR"
    neutral = math.inf
    lowest = 0.5

    levels: tuple[Level, ...] = ladder("SNR", 30, 20, 12, 8, 4)
    coils: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.coils, int) or isinstance(self.coils, bool) or not 1 <= self.coils <= _MOST_COILS:
            raise ValueError(f"coils: expected a whole number from 1 to {_MOST_COILS}, got {self.coils!r}")

    def prepare(self, batch: Batch) -> AlterValue:
        """Draw the noise that the levels share, and read the noise that is there."""
        inside = foreground(batch.images)
        native, mean = noise_sd(batch.images), tissue_mean(batch.images, inside)
        own = native.nan_to_num(0.0)
        in_phase, rest = self._draws(batch)

        def alter(snr: Value) -> Change:
            target = mean / per_case_factor(snr, mean)
            added = (target.square() - own.square()).clamp_min(0.0).sqrt()
            images = noisy_magnitude(batch.images, per_case(added, batch.images), in_phase, rest)
            measured = {
                "snr_requested": filled(snr, mean),
                "snr": mean / (own.square() + masked_variance(images.detach() - batch.images, inside)).sqrt(),
                "native_snr": mean / native,
                "added_noise_sd": added.detach(),
            }
            return Change(images=images, measured=measured, applicable=added > 0.0, reason="as noisy already")

        return alter

    def _draws(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """z₁, and the sum of the squares of the others."""
        shape, stream = batch.images.shape[1:], (self.id, self.version)
        in_phase, rest = (
            seeds.normal(shape, batch.device, batch.seeds, *stream, name) for name in ("in phase", "quadrature")
        )
        rest = rest.square()
        for number in range(2 * self.coils - 2):
            rest += seeds.normal(shape, batch.device, batch.seeds, *stream, "channel", number).square()
        return in_phase, rest


def noisy_magnitude(signal: Tensor, sigma: Tensor | float, in_phase: Tensor, rest: Tensor) -> Tensor:
    """Magnitude of a noisy complex signal, ``√((S + σ z₁)² + σ² Σ z²)``.

    Args:
        signal: True magnitude S.
        sigma: σ of one channel.
        in_phase: z₁, standard normal.
        rest: Sum of the squares of the other 2 L - 1 standard normal draws.

    >>> noisy_magnitude(torch.tensor(3.0), 2.0, torch.tensor(0.0), torch.tensor(4.0))
    tensor(5.)
    """
    return ((signal + sigma * in_phase).square() + sigma**2 * rest).sqrt()


def rician_moments(signal: float, sigma: float) -> tuple[float, float]:
    """Mean and standard deviation of a Rician variable.

    ``mean = σ √(π/2) e^(-x/2) [(1 + x) I₀(x/2) + x I₁(x/2)]`` with ``x = S² / 2σ²``; the second moment is S² + 2 σ².

    >>> [round(value, 4) for value in rician_moments(0.0, 1.0)]
    [1.2533, 0.6551]
    """
    from scipy.special import i0e, i1e

    x = signal**2 / (2.0 * sigma**2)
    mean = sigma * math.sqrt(math.pi / 2.0) * float((1.0 + x) * i0e(x / 2.0) + x * i1e(x / 2.0))
    return mean, math.sqrt(signal**2 + 2.0 * sigma**2 - mean**2)

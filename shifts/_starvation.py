"""Photon starvation: where so few quanta arrive that the logarithm of the counts is not normal any more.

Below a mean of 100 counts the log-domain noise is drawn from the counts themselves: Poisson, plus electronic noise, not
below one count. The draw of the reference scan is subtracted, and the two draws are correlated as in one and the same
scan split in two, so that for many counts the difference becomes exactly the Gaussian extra noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.shifts._ct_noise import mixed
from robustbench_rad.shifts._poisson import poisson_quantile

if TYPE_CHECKING:
    from torch import Tensor

FEW_COUNTS = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class StarvedRays:
    """Rays of a stack of sinograms that are starved at the lowest dose.

    Attributes:
        index: ``(R,)`` position in the flattened sinograms.
        counts: ``(R,)`` mean counts N of the reference scan.
        draws: ``(4, R)`` normal: quantum and electronic noise of the lower dose, then of the reference. Quantum noise
            has unit variance, electronic noise that of the readings in the ray.
        shape: Shape of the sinograms.
    """

    index: Tensor
    counts: Tensor
    draws: Tensor
    shape: torch.Size

    def correction(self, *, dose_fraction: float, electronic_noise_quanta: float) -> Tensor | None:
        """What to add to the Gaussian extra noise of these rays; sinograms of :attr:`shape`, None when none is starved."""
        few = self.counts * dose_fraction < FEW_COUNTS
        if not bool(few.any()):
            return None
        counts, draws = self.counts[few], self.draws[:, few]
        exact = extra_log_noise(counts, draws, dose_fraction, electronic_noise_quanta)
        quantum, electronic = mixed(dose_fraction)
        gaussian = quantum * draws[0] / counts.sqrt() + electronic * electronic_noise_quanta * draws[1] / counts
        sinograms = torch.zeros(self.shape, device=counts.device).flatten()
        sinograms[self.index[few]] = exact - gaussian
        return sinograms.reshape(self.shape)


def extra_log_noise(counts: Tensor, draws: Tensor, dose_fraction: float, electronic_noise_quanta: float) -> Tensor:
    """Log-domain noise of the lower dose minus that of the reference scan.

    ``z_α = √α z_ref + √(1 - α) z`` for quanta, ``α z_ref + √(1 - α²) z`` for electronic noise: with these correlations
    the difference of the two logarithms has the variance (1/α - 1) / N + (1/α² - 1) (σ_e / N)² when N is large.

    Args:
        counts: ``(R,)`` mean counts N of the reference.
        draws: ``(4, R)`` as in :class:`StarvedRays`.
        dose_fraction: α.
        electronic_noise_quanta: σ_e.
    """
    alpha, (quantum, electronic, own_quantum, own_electronic) = dose_fraction, draws
    low = math.sqrt(alpha) * own_quantum + math.sqrt(1.0 - alpha) * quantum
    low_electronic = alpha * own_electronic + math.sqrt(1.0 - alpha**2) * electronic
    lower = log_noise(alpha * counts, low, electronic_noise_quanta * low_electronic)
    return lower - log_noise(counts, own_quantum, electronic_noise_quanta * own_electronic)


def log_noise(counts: Tensor, z: Tensor, electronic_quanta: Tensor) -> Tensor:
    """``-ln(max(y, 1) / N)`` with y a Poisson count of mean N plus electronic noise; positive z means fewer quanta."""
    measured = poisson_quantile(counts, -z) - electronic_quanta
    return -(measured.clamp_min(1.0) / counts).log()

"""From presentation signal to detector exposure and back, through a declared display curve.

A presentation image in [0, 1] says nothing about exposure by itself. Under the ``log-linear`` curve (bright is little exposure)
the relative exposure is ``10^(-decades · signal)``; under the ``linear`` curve (detector signal) it is the signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.shifts._levels import require_one_of, require_positive

if TYPE_CHECKING:
    from torch import Tensor

DISPLAY_CURVES = ("log-linear", "linear")
_LEAST = 1e-12


@dataclass(frozen=True, kw_only=True)
class DisplayCurve:
    """How signal stands for exposure.

    Attributes:
        display_curve: ``log-linear`` or ``linear``.
        decades: Decades of exposure over the full scale of the log-linear curve.

    >>> curve = DisplayCurve()
    >>> curve.exposure(torch.tensor([0.0, 1.0])).tolist()[0]
    1.0
    >>> signal = torch.tensor([0.5])
    >>> curve.signal(torch.tensor([10.0**-0.15]), signal).item()
    0.6000000238418579
    """

    display_curve: str = "log-linear"
    decades: float = 1.5

    def __post_init__(self) -> None:
        require_one_of(self, "display_curve", DISPLAY_CURVES)
        require_positive(self, ("decades",))

    def exposure(self, signal: Tensor) -> Tensor:
        """Relative exposure, at most 1."""
        return 10.0 ** (-self.decades * signal) if self.display_curve == "log-linear" else signal

    def signal(self, ratio: Tensor, signal: Tensor) -> Tensor:
        """Signal after the exposure of ``signal`` was multiplied by ``ratio``; stored signal ends at 0 and 1."""
        if self.display_curve == "log-linear":
            return (signal - ratio.clamp_min(_LEAST).log10() / self.decades).clamp(0.0, 1.0)
        return (signal * ratio).clamp(0.0, 1.0)

    def changed(self, exposure: Tensor, before: Tensor, signal: Tensor) -> Tensor:
        """Signal of ``exposure`` where ``signal`` had the exposure ``before``; saturated pixels stay as they are."""
        return torch.where(exposed(signal), self.signal(exposure / before.clamp_min(_LEAST), signal), signal)


def exposed(signal: Tensor) -> Tensor:
    """Where the signal says how much exposure there was.

    Pixels at 0 or 1 (shutters, padding, burned-in letters, direct beam) say only that it lay beyond the scale.
    """
    return (signal > 0.0) & (signal < 1.0)


def mean_exposure(exposure: Tensor, signal: Tensor) -> Tensor:
    """Mean over the pixels that are not saturated, ``(N, 1, 1, 1)``, not below 1e-12; 1 where there are none."""
    counted = exposed(signal).to(exposure.dtype)
    count = counted.sum((1, 2, 3), keepdim=True)
    mean = (exposure * counted).sum((1, 2, 3), keepdim=True) / count.clamp_min(1.0)
    return torch.where(count > 0.0, mean, torch.ones_like(mean)).clamp_min(_LEAST)


def same_mean(exposure: Tensor, before: Tensor, signal: Tensor) -> Tensor:
    """Exposure control: scale ``exposure`` so that its mean is that of ``before``."""
    return exposure * (mean_exposure(before, signal) / mean_exposure(exposure, signal))

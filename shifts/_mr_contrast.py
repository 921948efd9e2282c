"""Contrast of brain MR: relaxation of three tissues, the signal equation, and what a change of it makes of an image.

With class maps every pixel is scaled by the ratio of the signals of its tissues. Without, three brightnesses of the image
stand for cerebrospinal fluid, grey and white matter, and a monotone piecewise linear map takes them to their new values: an
approximation that cannot tell two tissues of equal brightness apart.

References:
    Rooney et al. 2007, Magnetic field and tissue dependencies of human brain longitudinal 1H2O relaxation in vivo,
    10.1002/mrm.21122.
    Stanisz et al. 2005, T1, T2 relaxation and magnetization transfer in tissue at 3T, 10.1002/mrm.20605.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

HERTZ_PER_TESLA = 42.577478518e6
_T1_OF_FLUID_S = 4.3
_SAMPLES = 65536
_LARGEST_RATIO = 1e3


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """A tissue of the brain.

    Attributes:
        proton_density: Relative to water.
        t1_scale_s: Factor of Rooney's power law; 0 for a T1 that does not depend on the field.
        t1_exponent: Its exponent.
        t2_s: T2 in s, taken as independent of the field.
    """

    proton_density: float
    t1_scale_s: float
    t1_exponent: float
    t2_s: float

    def t1_s(self, tesla: float) -> float:
        """T1 in s, ``a (γ B₀ / 2π)ᵇ`` with γ B₀ / 2π in Hz.

        >>> [round(TISSUES[name].t1_s(1.5), 2) for name in ("white matter", "grey matter", "fluid")]
        [0.68, 1.0, 4.3]
        """
        if self.t1_scale_s == 0.0:
            return _T1_OF_FLUID_S
        return float(self.t1_scale_s * (HERTZ_PER_TESLA * tesla) ** self.t1_exponent)


TISSUES = {
    "fluid": Tissue(proton_density=1.0, t1_scale_s=0.0, t1_exponent=0.0, t2_s=1.5),
    "grey matter": Tissue(proton_density=0.8, t1_scale_s=0.00116, t1_exponent=0.376, t2_s=0.095),
    "white matter": Tissue(proton_density=0.7, t1_scale_s=0.00071, t1_exponent=0.382, t2_s=0.070),
}


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """How an image was weighted.

    Attributes:
        repetition_ms: TR.
        echo_ms: TE.
        inversion_ms: TI; NaN for no inversion.
        tesla: Field strength.
    """

    repetition_ms: float
    echo_ms: float
    tesla: float
    inversion_ms: float = math.nan

    def signal(self, tissue: Tissue) -> float:
        """Signal of a spin echo, ``ρ (1 - e^(-TR/T1)) e^(-TE/T2)``.

        After an inversion the recovery is ``|1 - 2 e^(-TI/T1) + e^(-TR/T1)|``.

        >>> long = Weighting(repetition_ms=1e6, echo_ms=70.0, tesla=3.0)
        >>> round(long.signal(TISSUES["white matter"]), 4) == round(0.7 / math.e, 4)
        True
        """
        t1 = tissue.t1_s(self.tesla)
        recovery = 1.0 - math.exp(-self.repetition_ms / 1000.0 / t1)
        if math.isfinite(self.inversion_ms):
            recovery = abs(recovery - 2.0 * math.exp(-self.inversion_ms / 1000.0 / t1) + 2.0 * (1.0 - recovery))
        return tissue.proton_density * recovery * math.exp(-self.echo_ms / 1000.0 / tissue.t2_s)


def class_ratios(source: Weighting, target: Weighting) -> list[float]:
    """Target over source signal of fluid, grey and white matter."""
    pairs = ((source.signal(tissue), target.signal(tissue)) for tissue in TISSUES.values())
    return [min(new / max(old, 1e-9), _LARGEST_RATIO) for old, new in pairs]


def signal_ratios(source: Weighting, target: Weighting) -> tuple[list[float], bool]:
    """Target over source signal of the three tissues, darkest of the source first, and whether their order stays."""
    pairs = sorted((source.signal(tissue), target.signal(tissue)) for tissue in TISSUES.values())
    after = [pair[1] for pair in pairs]
    ratios = [min(new / max(old, 1e-9), _LARGEST_RATIO) for old, new in pairs]
    return ratios, after == sorted(after)


def with_class_maps(image: Tensor, maps: Tensor, ratios: Tensor) -> Tensor:
    """Scale every pixel by the ratio of its tissues.

    Args:
        image: ``(1, …)``.
        maps: ``(C, …)`` share of every tissue; what is missing to 1 stays as it is.
        ratios: ``(C,)`` target over source signal.
    """
    shape = (-1, *[1] * (maps.ndim - 1))
    return image * (1.0 + (maps * (ratios.reshape(shape) - 1.0)).sum(0, keepdim=True))


def tissue_nodes(image: Tensor, inside: Tensor) -> Tensor:
    """Brightness of three tissues ``(3,)``, ascending, by k-means over the foreground of one case; NaN without three."""
    values = image.detach()[inside]
    values = values[:: max(1, len(values) // _SAMPLES)].double()
    if len(values) < 3:
        return image.new_full((3,), torch.nan)
    nodes = values.quantile(values.new_tensor([0.1, 0.5, 0.9]))
    for _ in range(30):
        nearest = (values[:, None] - nodes).abs().argmin(1)
        members = torch.nn.functional.one_hot(nearest, 3).double()
        nodes = torch.where(members.sum(0) > 0, values @ members / members.sum(0).clamp_min(1.0), nodes)
    apart = (nodes.diff() > 1e-3 * nodes[-1]).all()
    return torch.where(apart, nodes, torch.nan).to(image.dtype)


def remapped(image: Tensor, nodes: Tensor, ratios: Sequence[float]) -> Tensor:
    """Piecewise linear map of brightness: 0 to 0, every node to its multiple, beyond the last in proportion to it.

    A node that would get darker than the one before it gets as bright as that: the map stays monotone.

    >>> remapped(torch.tensor([0.0, 0.5, 1.0, 2.0]), torch.tensor([0.25, 0.5, 1.0]), [1.0, 2.0, 1.5]).tolist()
    [0.0, 1.0, 1.5, 3.0]
    """
    starts = torch.cat([nodes.new_zeros(1), nodes])
    ends = torch.cat([nodes.new_zeros(1), nodes * nodes.new_tensor(ratios)]).cummax(0).values
    slopes = torch.cat([ends.diff() / starts.diff(), ends[-1:] / starts[-1:]])
    place = torch.searchsorted(starts, image.detach().contiguous(), right=True).sub(1).clamp(0, 3)
    return ends[place] + slopes[place] * (image - starts[place])

"""Fat suppression that fails where the main field is off: fat under the skin lights up on one side of the image.

    I' = I + A · mean · L(r) · w(r),      w = 1 / (1 + exp(-(p(r) - p₀) / s))

L is the outer layer of the body, w a smooth region of failure, p a polynomial drawn for each case.

Reference:
    Delfaut et al. 1999, Fat suppression in MR imaging: techniques and pitfalls, 10.1148/radiographics.19.2.g99mr03373.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts._inputs import per_case
from robustbench_rad.shifts._ladder import Change, ladder
from robustbench_rad.shifts._levels import require_positive
from robustbench_rad.shifts._mr_fat import skin_layers
from robustbench_rad.shifts._mr_fields import polynomial_fields
from robustbench_rad.shifts._mr_inputs import MrShift, tissue_mean

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.shifts._ladder import Alter

_ORDER = 2
_SOFTNESS = 0.2  # of the spread of the field


@register(
    id="shift.mr.fat-sat-failure",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="approximate",
    modalities=("MR",),
    reference="Delfaut et al. 1999, 10.1148/radiographics.19.2.g99mr03373",
    unit="% of the tissue mean",
)
@dataclass(frozen=True, kw_only=True)
class MrFatSatFailure(MrShift):
    """Bright fat under the skin over a part of a fat-suppressed image.

    Approximate: the fat is taken to be the outer layer of the body; meant for fat-suppressed sources (an image does not say
    whether it is one, and the fat of another is bright already). A case of unknown spacing is not applicable. Measurements per
    level: ``fat_percent_requested``, ``fat_percent`` (largest signal added, over the tissue mean) and
    ``failed_layer_percent``, the part of the layer that got more than half of it.

    Attributes:
        levels: Signal of the fat in % of the tissue mean, mildest first; 0 is the image itself.
        depth_mm: Thickness of the layer.
    """

    unit = "% of the tissue mean"
    highest = 1000.0

    levels: tuple[Level, ...] = ladder("% of the tissue mean", 20, 40, 80, 120, 200)
    depth_mm: float = 8.0

    def __post_init__(self) -> None:
        require_positive(self, ("depth_mm",))

    def prepare(self, batch: Batch) -> Alter:
        """Find the layer, and draw where suppression fails."""
        layers, known = skin_layers(batch, self.depth_mm)
        field = polynomial_fields(batch, _ORDER, self.id, self.version)
        weight = softened(layers) * failure(field, layers)
        mean = tissue_mean(batch.images)
        size = layers.flatten(1).sum(1)
        failed = ((weight > 0.5) & layers).flatten(1).sum(1)

        def alter(percent: float) -> Change:
            measured = {
                "fat_percent_requested": torch.full_like(mean, percent),
                "fat_percent": percent * weight.flatten(1).amax(1),
                "failed_layer_percent": 100.0 * failed / size,
            }
            return Change(
                images=batch.images + per_case(percent / 100.0 * mean, weight) * weight,
                measured=measured,
                applicable=known & (weight.flatten(1).amax(1) > 0.5),
                reason="pixel spacing unknown, or no layer under the skin",
            )

        return alter


def failure(field: Tensor, layers: Tensor) -> Tensor:
    """Smooth weights from 0 to 1: suppression fails over about a quarter of the layer; 1 is reached in it."""
    count = layers.flatten(1).sum(1).clamp_min(1)
    mean = (field * layers).flatten(1).sum(1) / count
    spread = (((field - per_case(mean, field)).square() * layers).flatten(1).sum(1) / count).sqrt().clamp_min(1e-6)
    excess = (field - per_case(mean + 0.7 * spread, field)) / per_case(_SOFTNESS * spread, field)
    weight = torch.sigmoid(excess)
    top = (weight * layers).flatten(1).amax(1).clamp_min(1e-6)
    return (weight / per_case(top, weight)).clamp_max(1.0)


def softened(layers: Tensor) -> Tensor:
    """Layers with an edge of one pixel, from 0 to 1, not beyond themselves by more."""
    planes = layers.float().reshape(-1, 1, *layers.shape[-2:])
    kernel = planes.new_tensor([0.25, 0.5, 0.25])
    soft = functional.conv2d(
        functional.pad(planes, (1, 1, 1, 1), mode="replicate"), torch.outer(kernel, kernel)[None, None]
    )
    return soft.reshape(layers.shape)

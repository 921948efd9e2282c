"""Generic noise by its ImageNet-C names: for comparison with published tables, not a model of any detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from robustbench_rad import seeds
from robustbench_rad.registry import register
from robustbench_rad.shifts._generic import GenericShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


@register(
    id="shift.generic.gaussian-noise",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericGaussianNoise(GenericShift):
    """White Gaussian noise of the same size everywhere."""

    parameter: ClassVar[str] = "noise_sd"
    constants: ClassVar[tuple[Any, ...]] = (0.08, 0.12, 0.18, 0.26, 0.38)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        noise = seeds.normal(batch.images.shape[1:], batch.device, batch.seeds, self.id, self.version)
        return lambda sd: batch.images + sd * noise


@register(
    id="shift.generic.shot-noise",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericShotNoise(GenericShift):
    """Poisson noise of as many counts at white as the constant says; gradients pass straight through."""

    parameter: ClassVar[str] = "counts_at_white"
    constants: ClassVar[tuple[Any, ...]] = (60, 25, 12, 5, 3)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        def drawn(counts: float) -> Tensor:
            rates = batch.images.detach() * counts
            cases = [
                torch.poisson(rate, generator=seeds.generator(batch.device, seed, self.id, self.version))
                for rate, seed in zip(rates, batch.seeds, strict=True)
            ]
            return batch.images + (torch.stack(cases) / counts - batch.images).detach()

        return drawn


@register(
    id="shift.generic.impulse-noise",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericImpulseNoise(GenericShift):
    """Single pixels turned black or white, in equal shares."""

    parameter: ClassVar[str] = "share_of_pixels"
    constants: ClassVar[tuple[Any, ...]] = (0.03, 0.06, 0.09, 0.17, 0.27)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        draws = [
            torch.rand(
                batch.images.shape[1:],
                generator=seeds.generator(batch.device, s, self.id, self.version),
                device=batch.device,
            )
            for s in batch.seeds
        ]
        place = torch.stack(draws)

        def drawn(share: float) -> Tensor:
            dark = torch.where(place < share / 2, 0.0, batch.images)
            return torch.where(place > 1 - share / 2, 1.0, dark)

        return drawn


@register(
    id="shift.generic.speckle-noise",
    version=1,
    space="display",
    domain="acquisition-shift",
    kind="approximate",
    reference="Hendrycks and Dietterich 2019, arXiv:1903.12261",
    unit="severity",
)
@dataclass(frozen=True, kw_only=True)
class GenericSpeckleNoise(GenericShift):
    """White Gaussian noise in proportion to the brightness; the speckle of ultrasound is another thing."""

    parameter: ClassVar[str] = "relative_noise_sd"
    constants: ClassVar[tuple[Any, ...]] = (0.15, 0.20, 0.35, 0.45, 0.60)

    def corruption(self, batch: Batch) -> Callable[[Any], Tensor]:
        noise = seeds.normal(batch.images.shape[1:], batch.device, batch.seeds, self.id, self.version)
        return lambda sd: batch.images * (1 + sd * noise)

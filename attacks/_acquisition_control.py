"""Planted worst parameters: the positive control of the search for the worst acquisition, solved in the run that uses it.

Every case has a combination of parameters of its own at which its health is lowest, ``c + |p - p*|^2 - |p*|^2`` at the
parameters ``p``; the untouched image is ``p = 0``. So the answer is known: the worst lies ``|p*|^2`` below the health of the
untouched image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustbench_rad.attacks._acquisition import Search
from robustbench_rad.attacks._acquisition_axis import Axis
from robustbench_rad.attacks._acquisition_gradient import search_level
from robustbench_rad.conditions import Batch, Level, Space, Unit, Variant, Weigh
from robustbench_rad.continuous import AtValues
from robustbench_rad.seeds import derive_seed, generator

CASES = 16
NEAR = 0.5  # share of the planted fall that the search must find, on average over the cases
SLACK = 1e-4
SEED = "acquisition sentinel"
NO_LEVEL = Level(name="", value=0.0, unit="")


@dataclass(frozen=True, kw_only=True)
class PlantedAxis(Axis):
    """A parameter that is written into a pixel of the image, and changes nothing else.

    Attributes:
        place: Which pixel of the first row.
        differentiable: Whether it can be differentiated.
    """

    place: int
    differentiable: bool = True

    @property
    def continuous(self) -> bool:
        """Whether it can be differentiated."""
        return self.differentiable

    def prepared(self, batch: Batch) -> AtValues:
        """Each case at a value of its own."""
        return lambda values: Variant(level=NO_LEVEL, images=self._written(batch, values.to(batch.images.dtype)))

    def _written(self, batch: Batch, value: Tensor | float) -> Tensor:
        pixel = torch.zeros(batch.images.shape[-2:], dtype=torch.bool)
        pixel[0, self.place] = True
        new = value[:, None, None, None] if isinstance(value, Tensor) else value
        return torch.where(pixel, new, batch.images)

    def shifted(self, batch: Batch, values: Sequence[float]) -> Iterator[tuple[Batch, Tensor]]:
        """The batch at each value; it applies to every case."""
        for value in values:
            yield (
                replace(batch, images=self._written(batch, value)),
                torch.ones(len(batch), dtype=torch.bool, device=batch.device),
            )


@dataclass(kw_only=True, eq=False)
class PlantedQuery:
    """Margins ``(N, 1)`` of images whose first row holds the parameters and whose second the worst ones."""

    clean: float
    findings: tuple[str, ...] = ("planted",)

    def margins(self, images: Tensor) -> Tensor:
        """All cases are positive: the margin is the health."""
        at, worst = images[:, 0, 0], images[:, 0, 1]
        return (self.clean + (at - worst).square().sum(1) - worst.square().sum(1))[:, None]

    def margins_and_gradient(self, display: Tensor, weights: Tensor | Weigh) -> tuple[Tensor, Tensor]:
        """Margins ``(N, 1)``, and the gradient of the weighted ones by the images."""
        image = display.detach().requires_grad_()
        with torch.enable_grad():
            margins = self.margins(image)
            weight = weights(margins.detach(), torch.arange(len(image))) if callable(weights) else weights
            (gradient,) = torch.autograd.grad((margins * weight).sum(), image)
        return margins.detach(), gradient


def solve(slopes: Sequence[bool], evaluations: int, *, gradient: bool = True) -> str:
    """Search planted parameters.

    Args:
        slopes: For each of them whether it can be differentiated.
        evaluations: Passes spent on each case.
        gradient: Whether to follow gradients.

    Returns:
        "" when the answer is near enough to the known one, else what was expected and what came.
    """
    batch, fall = _plant(len(slopes))
    axes = [
        PlantedAxis(
            shift=f"planted {place}", ends=(-1.0, 1.0), options={}, neutral=0.0, place=place, differentiable=slope
        )
        for place, slope in enumerate(slopes)
    ]
    query = PlantedQuery(clean=float(len(slopes)))
    clean = query.margins(batch.images)
    search = Search.of(batch, query, axes, clean)
    search_level(search, 1.0, evaluations, gradient=gradient)
    return verdict(search, query, clean[:, 0], fall)


def verdict(search: Search, query: PlantedQuery, clean: Tensor, fall: Tensor) -> str:
    """Compare what a search has found with the planted falls ``(N,)``; "" when they agree."""
    found = clean - search.health[:, 0]
    if bool((found > fall + SLACK).any()):
        return "it went below the worst that the planted parameters allow"
    if bool((found < -SLACK).any()):
        return "it came back better than the untouched image"
    images = search.batch.images.clone()
    images[:, 0, 0] = search.place[:, 0].float()
    again = query.margins(images)[:, 0]
    if bool((search.place.abs() > 1).any()) or bool(((again - search.health[:, 0]).abs() > SLACK).any()):
        return "the parameters it reports do not give the margin it reports"
    share = float((found / fall).mean())
    if share < NEAR:
        return (
            f"it found {share:.0%} of the fall to the planted worst of {len(search.axes)} parameters with "
            f"{int(search.spent.max())} evaluations, expected at least {NEAR:.0%}; raise evaluations"
        )
    return ""


def _plant(parameters: int) -> tuple[Batch, Tensor]:
    """Cases with their worst parameters, uniform between a quarter of the envelope and its ends, and the falls to them."""
    source = generator("cpu", SEED, parameters)
    size = 0.25 + 0.75 * torch.rand(CASES, parameters, generator=source)
    worst = size * (torch.rand(CASES, parameters, generator=source) < 0.5).float().mul(2).sub(1)
    images = torch.stack([torch.zeros_like(worst), worst], 1)[:, None]
    names = tuple(f"planted-{row}" for row in range(CASES))
    batch = Batch(
        images=images,
        labels=torch.ones(CASES, 1),
        case_ids=names,
        patient_ids=names,
        seeds=tuple(derive_seed(SEED, name) for name in names),
        space=Space.PHYSICAL,
        unit=Unit.SIGNAL,
    )
    return batch, worst.square().sum(1)

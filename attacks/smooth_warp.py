"""Smooth deformation: the patient breathes, turns a shoulder, lies otherwise on the table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robustbench_rad.attacks._descend import descend, smooth_field
from robustbench_rad.attacks._envelope import NO_SPACING, TransformAttack, pixel_mm
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks.spatial import UNSEEN, may_lose
from robustbench_rad.conditions import Batch, Level, fraction
from robustbench_rad.registry import register

_MM = re.compile(r"^\s*([0-9./eE+-]+)\s*(?:mm)?\s*$")


def millimetres(*values: float | str) -> tuple[Level, ...]:
    """Levels in millimetres, from numbers or texts such as ``"2 mm"``.

    >>> [str(level) for level in millimetres(1, "2 mm")]
    ['1 mm', '2 mm']
    """
    levels = []
    for value in values:
        found = _MM.match(str(value))
        if found is None:
            raise ValueError(f'levels: expected millimetres such as "2 mm", got {value!r}')
        levels.append(Level(name=found[1], value=fraction(found[1]), unit="mm"))
    return tuple(levels)


@register(
    id="attack.smooth-warp",
    version=1,
    space="display",
    domain="adversarial",
    unit="mm",
    reference="Alaifari, Alberti, Gauksson 2019, arXiv:1804.07729; Rueckert et al. 1999, doi:10.1109/42.796284",
)
@dataclass(frozen=True, kw_only=True)
class SmoothWarp(TransformAttack):
    """The worst smooth displacement of each case, up to so many millimetres anywhere.

    The new image at ``q`` shows the original at ``q + u(q)``; ``u`` is a B-spline field on a coarse grid of control vectors,
    none of them longer than the level, so that no pixel moves further. Every control vector goes down the gradient of the
    margin, which is taken through the resampling. The image goes on beyond its edge with the edge's own value.

    Control vectors are held back where they would push a pixel of a known lesion over the edge: that would hide the finding
    by removing it. Where a positive case does not say where its lesion is, that cannot be seen, and the report says so.

    Measured of the worst plane: ``largest_displacement_px``, and ``_mm`` where the spacing is known; ``smallest_jacobian``
    of the map, which is above 0 where nothing is folded; ``lesion_area``, that of the known lesion as a share of what it was.

    Attributes:
        levels: Largest displacement in millimetres; pixels where the spacing is not known, and then it is said so.
        nodes: Control vectors along each axis; 1 shifts the whole image.
        steps: Planes scored per level.

    >>> SmoothWarp.from_options({"levels": ["1 mm", "2 mm"]}).passes(findings=1)
    185.0
    """

    notes: ClassVar[tuple[str, ...]] = (
        "largest_displacement_px",
        "largest_displacement_mm",
        "smallest_jacobian",
        "lesion_area",
    )

    levels: tuple[Level, ...] = millimetres(1, 2, 4)
    nodes: int = 5
    steps: int = 30

    def __post_init__(self) -> None:
        """Refuse a search that cannot be made."""
        super().__post_init__()
        self.check_counts(nodes=1, steps=1)

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from millimetres."""
        return millimetres(value)[0]

    @property
    def passes_per_level(self) -> float:
        """A gradient at the start and at every plane but the last."""
        return float(3 * self.steps + 1)

    @property
    def planes_at_once(self) -> int:
        """The plane, its grid of coordinates, and the gradients of both."""
        return 8

    def caveat(self, batch: Batch) -> str:
        """Whether millimetres are pixels, and whether a finding may have left the field of view."""
        spacing = "" if bool(pixel_mm(batch)[1].all()) else NO_SPACING
        return "; ".join(filter(None, (spacing, UNSEEN if bool(may_lose(batch).any()) else "")))

    def search(self, front: Front, level: Level) -> None:
        """Every control vector down the slope."""
        del level
        axes = front.live.centre.ndim - 2
        start = torch.zeros(len(front), axes, *[self.nodes] * axes, device=front.live.centre.device)
        descend(
            front,
            start,
            steps=self.steps,
            render=lambda nodes: warped(front.live.centre, _pixels(front, nodes)),
            move=lambda nodes, slope, fraction: _inside(front, shorter(nodes - fraction * unit_vectors(slope))),
            describe=lambda nodes: _describe(front, nodes),
        )


def _pixels(front: Front, nodes: Tensor) -> Tensor:
    """Displacement ``(L, d, ...)`` in pixels from control vectors ``(L, d, n, ..., n)`` in units of the level."""
    spacing = pixel_mm(front.batch)[0][front.live.targets.case]
    shape = (*spacing.shape, *[1] * spacing.shape[1])
    return smooth_field(
        nodes * front.threat.radius.reshape(-1, *[1] * (nodes.ndim - 1)) / spacing.reshape(shape),
        front.live.centre.shape[2:],
    )


def _inside(front: Front, nodes: Tensor) -> Tensor:
    """Control vectors that leave known lesions in the field of view.

    With ``u`` between these bounds everywhere, ``q -> p - u(q)`` maps the image into itself for every pixel ``p`` of the
    lesion, and so has a fixed point: a place at which ``p`` is shown. Splines stay within the bounds of their nodes.
    """
    if front.batch.lesion is None:
        return nodes
    case = front.live.targets.case
    unit = pixel_mm(front.batch)[0][case] / front.threat.radius.reshape(-1, 1)  # of the level, in one pixel
    before, after = (room * unit for room in room_around(front.batch.lesion[case]))
    shape = (*unit.shape, *[1] * unit.shape[1])
    return torch.maximum(torch.minimum(nodes, before.reshape(shape)), -after.reshape(shape))


def _describe(front: Front, nodes: Tensor) -> dict[str, Tensor]:
    spacing, known = (values[front.live.targets.case] for values in pixel_mm(front.batch))
    field = _pixels(front, nodes)
    shape = (*spacing.shape, *[1] * spacing.shape[1])
    lengths = (field * spacing.reshape(shape)).square().sum(1).sqrt()
    return {
        "largest_displacement_px": field.square().sum(1).sqrt().flatten(1).amax(1),
        "largest_displacement_mm": torch.where(known, lengths.flatten(1).amax(1), torch.nan),
        "smallest_jacobian": jacobian(field).flatten(1).amin(1),
        "lesion_area": _lesion_area(front, field),
    }


def _lesion_area(front: Front, field: Tensor) -> Tensor:
    if front.batch.lesion is None:
        return torch.full((len(front),), torch.nan, device=field.device)
    lesion = front.batch.lesion[front.live.targets.case].to(field.dtype)
    return warped(lesion, field).flatten(1).sum(1) / lesion.flatten(1).sum(1)  # 0 / 0: no lesion


def room_around(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels ``(L, d)`` from the outermost marked pixels to the edge before and after them; infinite without any.

    >>> [room.tolist() for room in room_around(torch.tensor([[[[False, True, True, False, False]]]]))]
    [[[0.5, 1.5]], [[0.5, 2.5]]]
    """
    before, after = [], []
    for axis, size in enumerate(masks.shape[2:], start=2):
        marked = masks.movedim(axis, -1).flatten(1, -2).any(1)
        place = torch.arange(size, device=masks.device) + 0.5
        before.append(torch.where(marked, place, torch.inf).amin(1))
        after.append(torch.where(marked, size - place, torch.inf).amin(1))
    return torch.stack(before, 1), torch.stack(after, 1)


def unit_vectors(vectors: Tensor) -> Tensor:
    """Vectors ``(L, d, ...)`` of length 1 along the second axis; zeros stay."""
    largest = vectors.abs().amax(1, keepdim=True)  # first of all: squares of very small gradients would vanish
    scaled = vectors / torch.where(largest > 0, largest, 1.0)
    length = scaled.square().sum(1, keepdim=True).sqrt()
    return scaled / torch.where(length > 0, length, 1.0)


def shorter(vectors: Tensor) -> Tensor:
    """Vectors ``(L, d, ...)`` no longer than 1 along the second axis."""
    return vectors / vectors.square().sum(1, keepdim=True).sqrt().clamp_min(1.0)


def warped(images: Tensor, displacement: Tensor) -> Tensor:
    """Images ``(L, 1, ...)`` seen at ``q + u(q)``, linear interpolation, continued with their own edge; differentiable.

    Args:
        images: Originals.
        displacement: ``u``, ``(L, d, ...)`` in pixels along (slice,) row, column.
    """
    size = images.shape[2:]
    places = torch.meshgrid(*(torch.arange(pixels, device=images.device) for pixels in size), indexing="ij")
    axes = [
        (2 * (place + displacement[:, axis]) + 1) / pixels - 1
        for axis, (place, pixels) in enumerate(zip(places, size, strict=True))
    ]
    grid = torch.stack(axes[::-1], -1)  # torch's coordinates run from column to slice
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def jacobian(displacement: Tensor) -> Tensor:
    """Determinant ``(L, ...)`` of the derivative of ``q + u(q)``; 1 along an axis of a single pixel.

    >>> jacobian(torch.zeros(1, 2, 3, 3)).unique().tolist()
    [1.0]
    """
    axes = displacement.shape[1]
    columns = [
        torch.gradient(displacement, dim=axis + 2)[0]
        if displacement.shape[axis + 2] > 1
        else torch.zeros_like(displacement)
        for axis in range(axes)
    ]
    matrix = torch.stack(columns, 2).movedim((1, 2), (-2, -1)) + torch.eye(axes, device=displacement.device)
    determinant: Tensor = torch.linalg.det(matrix)
    return determinant

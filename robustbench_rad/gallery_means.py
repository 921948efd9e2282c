"""Mean images for the report: one per scanner (or other nuisance value), and one behind the positions of markers.

The probe of scanners keeps in its state, as ``mean <column>=<value>``, the mean display image of the cases that have a value
of a nuisance column and no burned-in text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad import gallery_pixels
from robustbench_rad.gallery_pixels import Strip, Tile
from robustbench_rad.registry import entry
from robustbench_rad.result import Domain, PanelLine
from robustbench_rad.shortcuts._insertion import Paired

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Condition, State

MEAN = "mean "
Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanImage:
    """Mean display image ``(1, H, W)`` of the cases that have one value of a column."""

    column: str
    value: str
    cases: int
    image: Tensor


def strips(conditions: Sequence[Condition], states: Mapping[str, State | None], counts: Counts) -> list[Strip]:
    """Mean images per value of every column that a probe has seen, and the field of every insertion.

    Args:
        conditions: Those whose state may be shown.
        states: What they have learned.
        counts: Cases per value of every column.
    """
    found: list[Strip] = []
    for condition in conditions:
        images = mean_images(states.get(condition.id) or {}, counts)
        for column in dict.fromkeys(image.column for image in images):
            found += _beside(condition, [image for image in images if image.column == column])
    return found + _fields(conditions, states)


def mean_images(state: State, counts: Counts) -> list[MeanImage]:
    """What a probe's state holds of these columns and values, the most frequent value of a column first."""
    found = [
        MeanImage(column=column, value=value, cases=cases, image=state[name])
        for column, values in counts.items()
        for value, cases in sorted(values.items(), key=lambda item: (-item[1], item[0]))
        if (name := f"{MEAN}{column}={value}") in state
    ]
    return [image for image in found if bool(image.image.isfinite().all())]


def _beside(condition: Condition, images: Sequence[MeanImage]) -> list[Strip]:
    """The mean of all, then of each value with its difference from it; nothing where there is only one value."""
    if len(images) < 2:
        return []
    cases = sum(image.cases for image in images)
    overall = _plane(torch.stack([image.image.double() * image.cases / cases for image in images]).sum(0).float())
    planes = [_plane(image.image) for image in images]
    scale = gallery_pixels.largest_difference(planes, overall)
    tiles = [Tile(name="all of these", image=gallery_pixels.grey(overall), lines=(PanelLine(text=f"{cases:,} cases"),))]
    for image, plane in zip(images, planes, strict=True):
        difference = gallery_pixels.difference(plane, overall, scale)
        lines = (PanelLine(text=f"{image.cases:,} case{'s' * (image.cases != 1)}"),)
        tiles.append(Tile(name=image.value, image=gallery_pixels.grey(plane), difference=difference, lines=lines))
    caption = (
        f"Mean image by {images[0].column}. Below each its difference from the mean of all of these, black to white: "
        f"±{scale:.2g} of the range. The fewer cases, the more of a difference is chance. "
        "Cases with burned-in text are left out."
    )
    return [Strip(check=condition.id, domain=_domain(condition), caption=caption, tiles=(*tiles,))]


def _fields(conditions: Sequence[Condition], states: Mapping[str, State | None]) -> list[Strip]:
    """A mean image of the cases for every check that has positions, where some other check has learned one."""
    mean = _any_mean(states.get(condition.id) or {} for condition in conditions)
    if mean is None:
        return []
    tile = Tile(name="mean image", image=gallery_pixels.grey(mean))
    return [
        Strip(
            check=condition.id, domain=_domain(condition), caption="Mean image of the cases.", tiles=(tile,), field=True
        )
        for condition in conditions
        if isinstance(condition, Paired)
    ]


def _any_mean(states: Iterable[State]) -> Tensor | None:
    for state in states:
        if "mean" in state and state["mean"].ndim == 4 and state["mean"].numel():
            return _plane(state["mean"][0])
    return None


def _plane(image: Tensor) -> Tensor:
    """``(H, W)`` of ``(1, H, W)``; the middle slice of a volume."""
    plane = image[0]
    return plane if plane.ndim == 2 else plane[plane.shape[0] // 2]


def _domain(condition: Condition) -> Domain:
    return Domain(entry(condition.id).domain)

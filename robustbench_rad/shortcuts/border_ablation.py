"""Shortcut audit A10: the border ring and the corners are replaced by the data set's mean image.

Markers, letters, collimation and the outline of the body lie there. What the model loses without them is what it takes from
there, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import (
    SHOWS_BURNED_IN,
    Applied,
    Condition,
    Level,
    Measurement,
    Space,
    Variant,
)
from robustbench_rad.errors import DataError, suggestion
from robustbench_rad.registry import register
from robustbench_rad.shortcuts import anatomy

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.classifier import Classifier
    from robustbench_rad.conditions import Batch, ModelQuery, State

PLACES = ("ring", "corners")


def place_level(name: str) -> Level:
    """The level of a named place.

    Raises:
        ValueError: No such place; the nearest one is named.
    """
    if name not in PLACES:
        raise ValueError(f"no place {name!r}. {suggestion(name, PLACES)}")
    return Level(name=name, value=float(PLACES.index(name)), unit="")


@register(
    id="shortcut.border-ablation",
    version=1,
    space="display",
    domain="shortcut",
    kind="categorical",
    reference="Zech et al. 2018, doi:10.1371/journal.pmed.1002683; Maguolo & Nanni 2021, doi:10.1016/j.inffus.2021.04.008",
    unit="",
)
@dataclass(frozen=True, kw_only=True)
class BorderAblation(Condition):
    """Replace the border ring, or the four corners, by the mean image of the data set.

    Levels: ``ring``, ``corners``. In a volume the ring and the corners are those of every slice. Measured per level:
    ``covered_share`` of the image, and ``anatomy_covered_share`` of the case's own mask (NaN without one).

    Attributes:
        ring_share: Width of the ring as a share of the shorter side.
        corner_share: Side of a corner's square, likewise.
        feather_share: Width of the soft edge beyond, likewise.
    """

    levels: tuple[Level, ...] = (place_level("ring"), place_level("corners"))
    ring_share: float = 0.06
    corner_share: float = 0.15
    feather_share: float = 0.02

    def __post_init__(self) -> None:
        """Refuse shares that cover nothing, or all.

        Raises:
            ValueError: Says which.
        """
        for name, most in (("ring_share", 0.45), ("corner_share", 0.45)):
            if not 0.0 < getattr(self, name) <= most:
                raise ValueError(f"{name}: expected a share in (0, {most:g}], got {getattr(self, name)}")
        if not 0.0 <= self.feather_share <= 0.1:
            raise ValueError(f"feather_share: expected a share in [0, 0.1], got {self.feather_share}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the name of a place."""
        return place_level(str(value))

    def fit(self, classifier: Classifier, batches: Iterator[Batch]) -> State | None:
        """Average the images, in one streaming pass; those with burned-in text only when there are no others.

        Returns:
            ``mean`` ``(1, 1, ...)``, and ``shows_burned_in``: all cases are burned in.
        """
        del classifier
        sums: dict[bool, Tensor] = {}
        counts = {True: 0, False: 0}
        for batch in batches:
            carries = torch.tensor(batch.burned_in or (False,) * len(batch), dtype=torch.bool)
            for burned in (True, False):
                chosen = batch.images.cpu()[carries == burned].double().sum(0, keepdim=True)
                sums[burned] = sums[burned] + chosen if burned in sums else chosen
                counts[burned] += int((carries == burned).sum())
        if not sums:
            return None
        used = not counts[False]
        return {"mean": (sums[used] / counts[used]).float(), SHOWS_BURNED_IN: torch.tensor(used)}

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Cover the places, once per level.

        Raises:
            DataError: Not display images, or a mean image of another size.
        """
        del query
        if batch.space is not Space.DISPLAY:
            raise DataError(f"{self.id}: expected display images, got {batch.space} images")
        if state is None or state["mean"].shape[2:] != batch.images.shape[2:]:
            came = "none" if state is None else tuple(state["mean"].shape)
            raise DataError(
                f"{self.id}: expected a mean image of the images' shape {tuple(batch.images.shape)}, got {came}"
            )
        measurements: list[Measurement] = []
        return Applied(variants=self._variants(batch, state, measurements), measurements=measurements)

    def _variants(self, batch: Batch, state: State, measurements: list[Measurement]) -> Iterator[Variant]:
        mean = state["mean"].to(batch.images)
        for level in self.levels:
            place = self.place(level.name, batch.images.shape[2:]).to(batch.device)
            weights = self._softened(place)
            measurements.extend(_measured(place, batch, level.name))
            yield Variant(level=level, images=anatomy.blended(batch.images, mean, weights))

    def place(self, name: str, shape: torch.Size) -> Tensor:
        """Boolean mask ``(1, 1, ...)`` of a place in images of this shape."""
        share = self.ring_share if name == "ring" else self.corner_share
        width = max(round(share * min(shape[-2:])), 1)
        rows, columns = (_ends(length, width) for length in shape[-2:])
        plane = rows[:, None] | columns[None] if name == "ring" else rows[:, None] & columns[None]
        return plane.expand(1, 1, *shape)

    def _softened(self, place: Tensor) -> Tensor:
        """Weights of the mean image; slices of a volume do not soften each other."""
        radius = round(self.feather_share * min(place.shape[-2:]) / 2)
        plane = place if place.ndim == 4 else place[:, :, 0]
        weights = anatomy.feathered(plane, radius)
        return weights if place.ndim == 4 else weights.unsqueeze(2)


def _ends(length: int, width: int) -> Tensor:
    ends = torch.zeros(length, dtype=torch.bool)
    ends[:width] = True
    ends[max(length - width, 0) :] = True
    return ends


def _measured(place: Tensor, batch: Batch, level: str) -> list[Measurement]:
    share = place.float().mean().expand(len(batch))
    measured = [Measurement(quantity="covered_share", values=share, level=level)]
    if batch.anatomy is not None and batch.anatomy.shape == batch.images.shape:
        own = batch.anatomy.bool()
        covered = (own & place).flatten(1).sum(1) / own.flatten(1).sum(1)
        measured.append(Measurement(quantity="anatomy_covered_share", values=covered.float(), level=level))
    return measured

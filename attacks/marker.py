"""What lies on a radiograph beside the patient: the worst marker, at the worst place, as bright as it may be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._envelope import keep_notes
from robustbench_rad.attacks._mask import beside_lesions
from robustbench_rad.attacks._search import Front
from robustbench_rad.attacks._threat import Anything, Threat
from robustbench_rad.conditions import Applied, Batch, Level, ModelQuery, State, fraction
from robustbench_rad.errors import DataError
from robustbench_rad.glyphs import coverage, glyphs
from robustbench_rad.registry import register

OF_SIDE = "% of the shorter side"
NAMES = ("L", "R", "tube", "electrodes", "text")
_SIZE = re.compile(r"^\s*([0-9./eE+-]+)\s*(mm|%)\s*$")


def marker_sizes(*values: str) -> tuple[Level, ...]:
    """Levels from sizes such as ``"10 mm"`` or ``"6 %"``.

    >>> [str(level) for level in marker_sizes("10 mm", "6 %")]
    ['10 mm', '6 % of the shorter side']
    """
    levels = []
    for value in values:
        found = _SIZE.match(str(value))
        if found is None:
            raise ValueError(f'levels: expected sizes such as "10 mm", or "6 %" of the shorter side, got {value!r}')
        levels.append(Level(name=found[1], value=fraction(found[1]), unit="mm" if found[2] == "mm" else OF_SIDE))
    return tuple(levels)


@register(
    id="attack.marker",
    version=1,
    space="display",
    domain="adversarial",
    modalities=("CR", "DX", "MG"),
    unit="% of the shorter side",
    reference="Zech et al. 2018, doi:10.1371/journal.pmed.1002683; DeGrave et al. 2021, doi:10.1038/s42256-021-00338-7",
    gradient=False,
)
@dataclass(frozen=True, kw_only=True)
class Marker(Attack):
    """The worst of all radiographic markers of a declared grid: letters L and R, a tube, ECG electrodes, border text.

    Every glyph is laid at every place of a grid over the image (text along the upper and lower border) in every intensity:
    ``x' = x + opacity (intensity - x)``. The size is the height of a letter; a tube is 4 times as long, the triangle of
    electrodes 3 times as wide. The whole grid is tried, so the answer is exact for it; no gradients are used. Pixels of a
    known lesion and its rim are never covered, so that a marker cannot hide the disease itself. What a marker can do here
    without covering anatomy is what the shortcut audit asks after. For projection images, not for volumes.

    Measured of the worst marker: ``worst_glyph`` (place in the list of glyphs, from 0), ``worst_row`` and ``worst_column``
    (0: the marker touches the upper or left edge, 1: the lower or right one) and ``worst_intensity``.

    Attributes:
        levels: Size of the marker, ``"10 mm"`` or ``"6 %"`` of the shorter side.
        glyphs: Which ones.
        places: Places along each axis.
        intensities: Display values of an opaque marker.
        candidates: Markers scored at once; changes no result.

    >>> Marker.from_options({"levels": ["6 %"]}).passes(findings=1)
    223.0
    """

    threat: ClassVar[type[Threat]] = Anything
    notes: ClassVar[tuple[str, ...]] = ("worst_glyph", "worst_row", "worst_column", "worst_intensity")

    levels: tuple[Level, ...] = marker_sizes("3 %", "6 %", "12 %")
    glyphs: tuple[str, ...] = NAMES
    places: int = 5
    intensities: tuple[float, ...] = (1.0, 0.6)
    candidates: int = 16

    def __post_init__(self) -> None:
        """Refuse a grid that is not one."""
        super().__post_init__()
        known = not isinstance(self.glyphs, str) and set(self.glyphs) <= set(NAMES)
        if not known or not self.glyphs or len(set(self.glyphs)) < len(self.glyphs):
            raise ValueError(f"glyphs: expected a list out of {list(NAMES)} without repeats, got {self.glyphs!r}")
        for name in ("places", "candidates"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
        given = self.intensities if isinstance(self.intensities, tuple) else ()
        if not given or not all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in given):
            raise ValueError(f"intensities: expected a list of display values from 0 to 1, got {self.intensities!r}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a size with its unit."""
        return marker_sizes(str(value))[0]

    @property
    def passes_per_level(self) -> float:
        """One per glyph, place and intensity."""
        return float(sum(len(self._grid(name)) for name in self.glyphs))

    @property
    def planes_at_once(self) -> int:
        """The candidates, their opacity, and its finer samples with their places."""
        return 14 * self.candidates

    def reach(self, level: Level, batch: Batch) -> Tensor:
        """Size ``(N,)`` in the level's unit; 0 where the spacing would have to be known and is not."""
        size = torch.full((len(batch),), level.value, device=batch.device)
        if level.unit == OF_SIDE:
            return size
        given = torch.full((len(batch), 2), torch.nan) if batch.spacing_mm is None else batch.spacing_mm
        return torch.where((given.to(size.device) > 0).all(1), size, 0.0)

    def why_none(self, level: Level, batch: Batch) -> str:
        """Millimetres need a spacing."""
        del batch
        return f'pixel spacing is not known, so {level} has no meaning; give sizes such as "6 %" of the shorter side'

    def touchable(self, batch: Batch) -> tuple[Tensor | None, str]:
        """What the mask allows, without known lesions and their rim."""
        return beside_lesions(self.mask, batch)

    def apply(self, batch: Batch, query: ModelQuery | None, state: State | None) -> Applied:
        """Attack every labelled case and finding at every level; see :meth:`Attack.apply`.

        Raises:
            DataError: The images are volumes.
        """
        if batch.images.ndim != 4:
            raise DataError(
                f"{self.id}: markers lie on projection images, got volumes of {tuple(batch.images.shape[2:])} pixels",
                hint="Leave this check out for volumes; attack.patch works on them.",
            )
        return super().apply(batch, query, state)

    def search(self, front: Front, level: Level) -> None:
        """The whole grid."""
        for number, grid in self._chunks():
            before, size = front.live.health.clone(), self._pixels(front, level)
            planes = self._drawn(front, number, grid, size)
            health = front.score_candidates(planes)
            place = torch.where(health.isfinite(), health, torch.inf).argmin(1)
            chosen = grid.to(health)[place]
            glyph = torch.full_like(before, float(NAMES.index(self.glyphs[number])))
            notes = dict(zip(self.notes, (glyph, *chosen.unbind(1)), strict=True))
            keep_notes(front, before, notes)
            front.compact()
            if not len(front):
                return

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        for number, name in enumerate(self.glyphs):
            grid = torch.tensor(self._grid(name))
            for first in range(0, len(grid), self.candidates):
                yield number, grid[first : first + self.candidates]

    def _grid(self, name: str) -> list[tuple[float, float, float]]:
        """Row, column and intensity of every marker of one kind."""
        along = [0.5] if self.places == 1 else [i / (self.places - 1) for i in range(self.places)]
        rows = [0.0, 1.0] if glyphs()[name].border else along
        return list(product(rows, along, self.intensities))

    def _pixels(self, front: Front, level: Level) -> Tensor:
        """Size ``(L, 2)`` in pixels along rows and columns."""
        images, size = front.live.centre, front.threat.radius[:, None]
        if level.unit == OF_SIDE:
            return (size * min(images.shape[2:]) / 100).expand(-1, 2)
        assert front.batch.spacing_mm is not None
        return size / front.batch.spacing_mm.to(images.device)[front.live.targets.case]

    def _drawn(self, front: Front, number: int, grid: Tensor, size: Tensor) -> Tensor:
        """Planes ``(L, M, 1, H, W)`` with one marker each."""
        images, allowed = front.live.centre[:, None], front.threat.allowed
        opacity = coverage(glyphs()[self.glyphs[number]], grid[:, :2], size, images.shape[3:])
        if allowed is not None:
            opacity = opacity * allowed[:, None]
        intensity = grid[:, 2].to(images).reshape(1, -1, 1, 1, 1)
        return images + opacity * (intensity - images)

"""Metal in the slice: streaks of a beam that hardens and starves behind it.

Only rays through metal are wrong. The scanner corrects its readings as if all were water, and calls the line integral C(p), so

    e = C(p(water, bone, metal)) - C(p(water, bone)) - a · L_metal,

a the straight part, which reconstructs to nothing but the metal itself and is fitted to the rays. Behind thick metal the
reading and its noise are those of ten quanta. Where no metal is, e is zero.

References:
    De Man et al. 1999, Metal streak artifacts in x-ray computed tomography, 10.1109/23.775600.
    Zhang and Yu 2018, Convolutional neural network based metal artifact reduction, 10.1109/TMI.2018.2823083.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, ClassVar

import torch

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_beam
from robustbench_rad.shifts._ct_artefact import (
    BONE_HU,
    FEWEST_QUANTA,
    AlterCase,
    CtArtefact,
    Disc,
    ErrorScan,
    case_uniforms,
)
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Implant:
    """One or two cylinders of metal across the slice.

    Attributes:
        material: One of the metals of the beam table.
        diameter_mm: Of each.
        distance_mm: Between the centres of a pair; 0 for a single one.
    """

    material: str
    diameter_mm: float
    distance_mm: float = 0.0


IMPLANTS = {
    "titanium 4 mm": Implant(material="titanium", diameter_mm=4.0),
    "two titanium 4 mm": Implant(material="titanium", diameter_mm=4.0, distance_mm=40.0),
    "two screws": Implant(material="titanium", diameter_mm=6.0, distance_mm=40.0),
    "titanium 30 mm": Implant(material="titanium", diameter_mm=30.0),
    "cobalt-chromium 40 mm": Implant(material="cobalt-chromium", diameter_mm=40.0),
    "filling": Implant(material="amalgam", diameter_mm=4.0),
    "two fillings": Implant(material="amalgam", diameter_mm=4.0, distance_mm=40.0),
}
_LADDER = tuple(IMPLANTS)[:5]


def _implant_level(value: float | str) -> Level:
    """Read the name of an implant, or 0 for none."""
    if value in IMPLANTS:
        return Level(name=str(value), value=float(list(IMPLANTS).index(str(value)) + 1), unit="")
    if str(value) in ("0", "0.0", "none"):
        return Level(name="none", value=0.0, unit="")
    raise ValueError(f"expected none or one of {', '.join(IMPLANTS)}, got {value!r}")


@register(
    id="shift.ct.metal",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="physical",
    modalities=("CT",),
    reference="De Man et al. 1999, 10.1109/23.775600; Zhang and Yu 2018, 10.1109/TMI.2018.2823083",
)
@dataclass(frozen=True, kw_only=True)
class CtMetal(CtArtefact):
    """An implant with its streaks, at one place of the case at all levels.

    A pixel of bone is drawn for the place, of the body where there is no bone; a pair lies side by side. Measured per level:
    ``metal_mm_requested`` (diameters), ``metal_mm`` in the slice, from the area that is painted, ``starved_share`` of the rays
    through metal, ``streak_sd_hu`` over the body outside of the metal.

    Attributes:
        levels: ``titanium 4 mm`` (a dental implant), ``two titanium 4 mm``, ``two screws`` (of 6 mm, titanium),
            ``titanium 30 mm``, ``cobalt-chromium 40 mm``; for heads ``filling`` (4 mm of amalgam, which lets no beam through
            and is worse in a trunk than 30 mm of titanium) and ``two fillings``; 0 is the image itself.
        metal_hu: What metal is stored as; 3071 is the end of the 12-bit scale.
        place: Row and column of the centre, as shares of the image; None to draw it.
        noise: Whether the noise of starved rays is added.
    """

    unit: ClassVar[str] = ""

    levels: tuple[Level, ...] = tuple(_implant_level(name) for name in _LADDER)
    metal_hu: float = 3071.0
    place: tuple[float, float] | None = None
    noise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("metal_hu",))
        if self.place is not None and not (len(self.place) == 2 and all(0.0 <= x <= 1.0 for x in self.place)):
            raise ValueError(f"place: expected two shares of the image from 0 to 1, got {self.place!r}")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from the name of an implant, or 0 for none."""
        return _implant_level(value)

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Choose the place."""
        centre = self._centre(scan)

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            implant = list(IMPLANTS.values())[int(value) - 1]
            discs = implant_discs(implant, *centre)
            chord = reduce(torch.add, (scan.chord_mm(disc) for disc in discs))
            covered = reduce(torch.maximum, (scan.cover(disc) for disc in discs))
            error, starved = self._errors(scan, implant.material, chord)
            change = scan.reconstructed(error)
            images = torch.where(scan.support, (scan.hu + change) * (1.0 - covered) + self.metal_hu * covered, scan.hu)
            outside = change * (covered == 0.0)
            area = float((covered * scan.spacing_mm**2).sum()) / len(discs)
            return images, {
                "metal_mm_requested": implant.diameter_mm * len(discs),
                "metal_mm": 2.0 * math.sqrt(area / math.pi) * len(discs),
                "starved_share": starved,
                "streak_sd_hu": scan.sd_in_body(outside),
            }

        return alter

    def _centre(self, scan: ErrorScan) -> tuple[float, float]:
        """Row and column in mm from the centre of the image; the same for all slices of a volume."""
        depth, height, width = scan.hu.shape
        if self.place is not None:
            row, column = self.place[0] * height - 0.5, self.place[1] * width - 0.5
        else:
            bony = (scan.scan.slices_hu > BONE_HU).sum(0)
            often = bony if bool((bony > 0).any()) else scan.body.sum(0)
            best = (often == often.max()).flatten().nonzero().flatten()
            chosen = int(best[int(case_uniforms(scan.seed, 1, self.id, self.version)[0] * len(best))])
            row, column = float(chosen // width), float(chosen % width)
        del depth
        return (row - (height - 1) / 2) * scan.spacing_mm, (column - (width - 1) / 2) * scan.spacing_mm

    @torch.no_grad()
    def _errors(self, scan: ErrorScan, material: str, chord: Tensor) -> tuple[list[Tensor], float]:
        """Errors of every slice, and the share of the rays through metal that are read as the fewest quanta."""
        deepest = -math.log(scan.inverse_i0 / float(scan.scan.readings[0]) * FEWEST_QUANTA)
        found = [
            metal_error(lengths, material, chord, deepest=deepest, water_per_mm=scan.scan.water_per_mm)
            for lengths in scan.lengths_mm
        ]
        errors = [error for error, _, _ in found]
        if self.noise:
            noises = scan.extra_noise([more for _, more, _ in found], self.id, self.version, "starvation")
            errors = [error + noise for error, noise in zip(errors, noises, strict=True)]
        through = max(int((chord > 0.0).sum()) * len(found), 1)
        return errors, sum(int(starved.sum()) for _, _, starved in found) / through


def implant_discs(implant: Implant, row: float, column: float) -> list[Disc]:
    """Its cylinders, side by side about a place in mm."""
    sides = [-0.5, 0.5] if implant.distance_mm else [0.0]
    return [
        Disc(row=row, column=column + side * implant.distance_mm, radius=implant.diameter_mm / 2.0) for side in sides
    ]


def metal_error(
    lengths_mm: dict[str, Tensor], material: str, chord_mm: Tensor, *, deepest: float, water_per_mm: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Error of the projections, what the metal attenuates, and where the reading ends at the fewest quanta.

    Args:
        lengths_mm: Water and bone, ``(1, views, channels)``.
        material: Of the metal.
        chord_mm: Metal, ``(1, views, channels)``.
        deepest: Log attenuation that leaves the fewest quanta.
        water_per_mm: What the scanner takes water to attenuate.

    Returns:
        Three tensors ``(1, views, channels)``; the error is 0 where no metal is.
    """
    through = chord_mm > 0.0
    chord = chord_mm[through]
    body = {name: length[through] for name, length in lengths_mm.items()}
    before = _ct_beam.attenuation(body)
    after = _ct_beam.attenuation({**body, material: chord})
    ceiling = torch.full_like(after, deepest).maximum(before)  # no darker than the body alone
    read = torch.minimum(after, ceiling)
    difference = (_ct_beam.water_length_mm(read) - _ct_beam.water_length_mm(before)) * water_per_mm
    straight = (difference * chord).sum() / chord.square().sum().clamp_min(1e-12)
    error, more = (torch.zeros_like(chord_mm, dtype=after.dtype) for _ in range(2))
    error[through], more[through] = difference - straight * chord, after - before
    starved = torch.zeros_like(through)
    starved[through] = after > ceiling
    return error, more, starved

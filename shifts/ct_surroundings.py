"""What lies beside the patient in the scanner: a couch that is there or cut away, arms that were not raised.

More attenuation adds noise to the rays that pass it, and the bone of an arm hardens the beam of every other bone on its rays.
Only these errors are reconstructed; what lies within the image is painted there, which for a linear reconstruction is exact.

Reference:
    Barrett and Keat 2004, Artifacts in CT: recognition and avoidance, 10.1148/rg.246045065.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, ClassVar

import torch
from scipy import ndimage

from robustbench_rad.conditions import Level
from robustbench_rad.registry import register
from robustbench_rad.shifts import _ct_beam
from robustbench_rad.shifts._ct_artefact import (
    BODY_HU,
    AlterCase,
    CtArtefact,
    Disc,
    ErrorScan,
    case_uniforms,
    per_mm,
)
from robustbench_rad.shifts._faults import named_level, named_levels
from robustbench_rad.shifts._ladder import ladder
from robustbench_rad.shifts._levels import require_positive

if TYPE_CHECKING:
    from torch import Tensor

_AIR_HU = -1000.0
_TABLE = ("present", "absent")
_ARMS = "arms"
_CUT_MM = 6.0  # what joins the body to the couch and is narrower belongs to neither


@register(
    id="shift.ct.table",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CT",),
    reference="Barrett and Keat 2004, 10.1148/rg.246045065",
)
@dataclass(frozen=True, kw_only=True)
class CtTable(CtArtefact):
    """A couch under the patient, or none.

    ``present`` paints the shell of a carbon-fibre couch below the body, with the noise of the rays that pass it; ``absent``
    sets all that is not the body to air. Measured: ``painted_share`` of the pixels that changed by more than 50 HU. Where the
    body reaches the edge of the field of view, its lungs may be open to it and cannot be told from the room: ``absent`` is
    not applicable there.

    Attributes:
        levels: ``present``, ``absent``; reported each for itself.
        width_mm: Of the couch.
        radius_mm: Of its hollow.
        shell_mm: Thickness of its shell.
        shell_hu: HU of its shell.
    """

    unit: ClassVar[str] = ""
    neutral: ClassVar[float | None] = None

    levels: tuple[Level, ...] = named_levels(_TABLE)
    width_mm: float = 420.0
    radius_mm: float = 450.0
    shell_mm: float = 4.0
    shell_hu: float = -100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("width_mm", "radius_mm", "shell_mm"))
        if self.width_mm > 2.0 * self.radius_mm:
            raise ValueError("width_mm: expected at most twice radius_mm")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from ``present`` or ``absent``."""
        return named_level(value, _TABLE)

    def obstacle(self, scan: ErrorScan, value: float) -> str:
        """Why the room cannot be emptied."""
        if _TABLE[int(value) - 1] == "present":
            return ""
        body = main_body(scan)
        if not bool(body.any()):
            return "no body was found, so nothing says what to keep"
        if bool((body & field_edge(scan.support)).any()):
            return "the body reaches the edge of the field of view, so that its air cannot be told from the room's"
        return ""

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Find the body."""
        body = main_body(scan)

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            if _TABLE[int(value) - 1] == "absent":
                images = torch.where(body | ~scan.support, scan.hu, _AIR_HU)
            else:
                images = self._with_couch(scan, body)
            changed = ((images - scan.hu).detach().abs() > 50.0).float()
            return images, {"painted_share": float(changed.mean())}

        return alter

    def _with_couch(self, scan: ErrorScan, body: Tensor) -> Tensor:
        """Paint the shell where there is air, and add the noise it makes."""
        rows = body.any(0).any(1).nonzero().flatten()
        height, width = scan.hu.shape[-2:]
        below = float(rows.max()) if len(rows) else 0.75 * height
        # the arc's lowest point lies a shell below the lowest row of the body
        bottom = (below + 1.0 - (height - 1) / 2) * scan.spacing_mm + self.shell_mm
        centre = bottom - self.radius_mm
        ring = Disc(row=centre, column=0.0, radius=bottom - centre, inner=bottom - centre - self.shell_mm)
        columns = (torch.arange(width, device=scan.hu.device) - (width - 1) / 2) * scan.spacing_mm
        row_mm = (torch.arange(height, device=scan.hu.device) - (height - 1) / 2) * scan.spacing_mm
        sector = (columns.abs() <= self.width_mm / 2.0) & (row_mm[:, None] > centre)
        shell = scan.cover(ring) * sector * ~body * scan.support
        painted = scan.hu + shell * (self.shell_hu - scan.hu).clamp_min(0.0)
        more = ((painted - scan.hu).detach() / 1000.0) * (per_mm("water") * scan.spacing_mm)
        passed = [part.projected(one[None]) for part, one in zip(scan.parts, more, strict=True)]
        noise = scan.extra_noise(passed, self.id, self.version, "noise")
        return painted + scan.reconstructed(noise)


@register(
    id="shift.ct.arms-down",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="emulated",
    modalities=("CT",),
    reference="Barrett and Keat 2004, 10.1148/rg.246045065",
    unit="arms",
)
@dataclass(frozen=True, kw_only=True)
class CtArmsDown(CtArtefact):
    """One or two arms beside the trunk, with the streaks between them.

    An arm is a cylinder of soft tissue around a humerus, beside the body at the height of its middle; where it lies beyond the
    field of view only its streaks are seen. Which side has the one arm is drawn per case. Measured per level:
    ``arms_requested``, ``streak_sd_hu`` over the body, ``visible_share`` of the arms within the image. A case without a body
    has no arms.

    Attributes:
        levels: Number of arms; 0 is the image itself.
        arm_mm: Diameter of an arm.
        humerus_mm: Outer diameter of its bone.
        cortex_mm: Thickness of the bone's wall.
        gap_mm: Between arm and trunk.
        noise: Whether the noise of the darker rays is added.
    """

    unit: ClassVar[str] = _ARMS
    highest: ClassVar[float] = 2.0

    levels: tuple[Level, ...] = ladder(_ARMS, 1, 2)
    arm_mm: float = 90.0
    humerus_mm: float = 24.0
    cortex_mm: float = 5.0
    gap_mm: float = 10.0
    noise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, ("arm_mm", "humerus_mm", "cortex_mm"))
        require_positive(self, ("gap_mm",), zero=True)
        if not 2.0 * self.cortex_mm <= self.humerus_mm < self.arm_mm:
            raise ValueError("cortex_mm, humerus_mm, arm_mm: expected the cortex in the bone in the arm")

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make a level from a whole number of arms."""
        made = super().level(value)
        if made.value != int(made.value):
            raise ValueError(f"expected 0, 1 or 2 arms, got {value}")
        return made

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Find where the arms lie; the first is on the drawn side."""
        places = self._places(scan)

        def alter(value: float) -> tuple[Tensor, dict[str, float]]:
            images, change, visible = scan.hu, torch.zeros_like(scan.scan.slices_hu), math.nan
            if places:
                images, change, visible = self._with_arms(scan, places[: int(value)])
            streaks = scan.sd_in_body(change) if places else math.nan
            return images, {"arms_requested": value, "streak_sd_hu": streaks, "visible_share": visible}

        return alter

    def _places(self, scan: ErrorScan) -> list[tuple[float, float]]:
        """Centres of the arms in mm; none where there is no body."""
        body = main_body(scan).any(0)
        rows, columns = (body.any(axis).nonzero().flatten() for axis in (1, 0))
        if not len(rows):
            return []
        height, width = scan.hu.shape[-2:]
        away = self.arm_mm / 2.0 + self.gap_mm
        row = (float(rows.min() + rows.max()) / 2 - (height - 1) / 2) * scan.spacing_mm
        sides = [
            (float(columns.min()) - (width - 1) / 2) * scan.spacing_mm - away,
            (float(columns.max()) - (width - 1) / 2) * scan.spacing_mm + away,
        ]
        if case_uniforms(scan.seed, 1, self.id, self.version)[0] < 0.5:
            sides.reverse()
        return [(row, column) for column in sides]

    def _with_arms(self, scan: ErrorScan, places: list[tuple[float, float]]) -> tuple[Tensor, Tensor, float]:
        """Images, errors alone, and the share of the arms within the image."""
        bone_hu = 1000.0 * (per_mm("bone") / per_mm("water") - 1.0)
        muscles = [Disc(row=r, column=c, radius=self.arm_mm / 2.0, inner=self.humerus_mm / 2.0) for r, c in places]
        inner = self.humerus_mm / 2.0 - self.cortex_mm
        bones = [Disc(row=r, column=c, radius=self.humerus_mm / 2.0, inner=inner) for r, c in places]
        arm = {
            "water": reduce(torch.add, (scan.chord_mm(disc) for disc in muscles)),
            "bone": reduce(torch.add, (scan.chord_mm(disc) for disc in bones)),
        }
        found = [arm_error(lengths, arm, water_per_mm=scan.scan.water_per_mm) for lengths in scan.lengths_mm]
        errors = [error for error, _ in found]
        if self.noise:
            extra = scan.extra_noise([more for _, more in found], self.id, self.version, "noise")
            errors = [error + noise for error, noise in zip(errors, extra, strict=True)]
        change = scan.reconstructed(errors)
        images, covered = scan.hu + change, torch.zeros_like(scan.hu[0])
        for disc, hu in [(disc, 50.0) for disc in muscles] + [(disc, bone_hu) for disc in bones]:
            cover = scan.cover(disc) * scan.support
            images = images + cover * (hu - scan.hu)
            covered = covered + scan.cover(disc)
        whole = len(places) * math.pi * ((self.arm_mm / 2.0) ** 2 - inner**2) / scan.spacing_mm**2
        return images, change, float(covered.sum()) / whole


def arm_error(
    lengths_mm: dict[str, Tensor], arm_mm: dict[str, Tensor], *, water_per_mm: float
) -> tuple[Tensor, Tensor]:
    """Error of the projections behind an arm, after the scanner's correction for water, and what the arm attenuates.

    Its own straight part, which reconstructs to the arm itself, is left out.
    """
    both = {name: length + arm_mm[name] for name, length in lengths_mm.items()}
    before, after = _ct_beam.attenuation(lengths_mm), _ct_beam.attenuation(both)
    difference = _ct_beam.water_length_mm(after) - _ct_beam.water_length_mm(before) - arm_mm["water"]
    bone = arm_mm["bone"]
    straight = (difference * bone).sum() / bone.square().sum().clamp_min(1e-12)
    return (difference - straight * bone) * water_per_mm, after - before


def main_body(scan: ErrorScan) -> Tensor:
    """The largest connected thing denser than -300 HU in each slice, with the air inside it, ``(D, H, W)``."""
    steps = max(1, round(_CUT_MM / scan.spacing_mm / 2.0))
    found = []
    for dense in (scan.scan.slices_hu > BODY_HU).cpu().numpy():
        opened = ndimage.binary_opening(ndimage.binary_fill_holes(dense), iterations=steps)
        names, count = ndimage.label(opened)
        if count == 0:
            found.append(torch.zeros(dense.shape, dtype=torch.bool))
            continue
        sizes = ndimage.sum_labels(opened, names, range(1, count + 1))
        whole = ndimage.binary_dilation(names == int(sizes.argmax()) + 1, iterations=steps + 1)
        found.append(torch.from_numpy(whole))
    return torch.stack(found).to(scan.hu.device)


def field_edge(support: Tensor) -> Tensor:
    """Reconstructed pixels ``(D, H, W)`` that touch the border of the image or what was not reconstructed.

    >>> field_edge(torch.ones(1, 4, 4, dtype=torch.bool)).sum().item()
    12
    """
    outside = torch.nn.functional.pad((~support).float(), (1, 1, 1, 1), value=1.0)
    return support & (torch.nn.functional.max_pool2d(outside[:, None], 3, 1)[:, 0] > 0.0)

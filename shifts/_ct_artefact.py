"""What the CT artefacts share: slices one by one, the error that is reconstructed, and what lies in the beam.

Only the *error* of the projections is ever reconstructed and added; the image itself is not projected and back. The centre of
rotation is the centre of the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from robustbench_rad.conditions import Unit
from robustbench_rad.seeds import generator
from robustbench_rad.shifts import _ct_beam
from robustbench_rad.shifts import _ct_noise as physics
from robustbench_rad.shifts._ct_kernels import KERNELS, source_kernels
from robustbench_rad.shifts._inputs import require_hounsfield, require_physical, unclipped_spacing_mm
from robustbench_rad.shifts._ladder import Alter, Change, LadderShift
from robustbench_rad.shifts._levels import require_one_of
from robustbench_rad.shifts._native_noise import NoiseProbe

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

BONE_HU = 200.0
BODY_HU = -300.0
FEWEST_QUANTA = 10.0
"""What a reading has at least: scanners average starved readings with their neighbours."""
_NOMINAL_I0 = 2e5  # quanta of a reading behind no object, where the image's own noise cannot be read
_PATH_MM = 200.0
_PADDING_BELOW_HU = -1024.0

AlterCase = Callable[[float], "tuple[Tensor, dict[str, float]]"]
"""One level of one case: altered slices ``(D, H, W)`` and what was measured."""


@dataclass(frozen=True, kw_only=True)
class CtArtefact(LadderShift):
    """Base of CT artefacts on images ``(N, 1, H, W)`` or volumes ``(N, 1, D, H, W)`` in HU, slice by slice.

    HU are never clipped; where the source was, its line integrals are wrong, and the case is not applicable. The error is a
    constant for gradients unless the shift says otherwise.

    Attributes:
        kernel: ``auto`` (from ConvolutionKernel of the file or a declared column, else soft), ``soft``, ``medium`` or
            ``sharp``: what the error is reconstructed with.
    """

    kernel: str = "auto"

    def __post_init__(self) -> None:
        require_one_of(self, "kernel", ("auto", *KERNELS))

    def refuse(self, batch: Batch) -> None:
        """Refuse what is not finite HU."""
        require_physical(batch, shift=self.id, unit=Unit.HU, ndim=(4, 5))
        require_hounsfield(batch, shift=self.id)

    def prepare(self, batch: Batch) -> Alter:
        """Prepare every case for itself: no number depends on its companions."""
        spacing, reason = unclipped_spacing_mm(batch)
        usable = spacing.isfinite()
        rows = [batch.select(torch.tensor([row], device=batch.device)) for row in range(len(batch))]
        scans = [
            ErrorScan.of(one, spacing[row : row + 1], self.kernel) if bool(usable[row]) else None
            for row, one in enumerate(rows)
        ]
        cases = [self.prepare_case(scan) if scan else None for scan in scans]

        def alter(value: float) -> Change:
            images, numbers = [], []
            obstacles = [self.obstacle(scan, value) if scan else "" for scan in scans]
            for case, obstacle, image in zip(cases, obstacles, batch.images, strict=True):
                altered, measured = case(value) if case and not obstacle else (image, {})
                images.append(altered.reshape(image.shape))
                numbers.append(measured)
            changed = torch.tensor([not torch.equal(new, old) for new, old in zip(images, batch.images, strict=True)])
            applicable = usable & changed.to(usable.device)
            explained = ~usable | torch.tensor([bool(why) for why in obstacles], device=usable.device)
            idle = "" if bool((applicable | explained).all()) else "nothing here that it would change"
            names = {name: None for measured in numbers for name in measured}
            return Change(
                images=torch.stack(images),
                measured={
                    name: batch.images.new_tensor([measured.get(name, math.nan) for measured in numbers])
                    for name in names
                },
                applicable=applicable,
                reason=", ".join(filter(None, (reason, *dict.fromkeys(obstacles), idle))),
            )

        return alter

    def obstacle(self, scan: ErrorScan, value: float) -> str:
        """Why a level has no meaning for a case; empty where it has."""
        del scan, value
        return ""

    def prepare_case(self, scan: ErrorScan) -> AlterCase:
        """Draw and project what the levels of one case share."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, eq=False)
class Disc:
    """A cylinder across the slice.

    Attributes:
        row: Of its centre, mm from the centre of the image, downwards.
        column: The same, to the right.
        radius: In mm.
        inner: Radius of the hole in it; 0 for none.
    """

    row: float
    column: float
    radius: float
    inner: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorScan:
    """The slices of one case, and the way back from errors of their projections.

    Attributes:
        scan: The slices.
        hu: ``(D, H, W)``, with gradient.
        seed: Of the case.
        spacing_mm: Pixel spacing.
    """

    scan: physics.Scan
    hu: Tensor
    seed: int
    spacing_mm: float

    @classmethod
    def of(cls, case: Batch, spacing_mm: Tensor, kernel: str) -> ErrorScan:
        """Take a batch of one case."""
        kernels, _ = source_kernels(kernel, case)
        hu = case.images.reshape(-1, *case.images.shape[-2:])
        scan = physics.Scan.of(case, spacing_mm, kernels)
        return cls(scan=scan, hu=hu, seed=case.seeds[0], spacing_mm=float(spacing_mm[0]))

    @cached_property
    def support(self) -> Tensor:
        """Pixels that were reconstructed, ``(D, H, W)``."""
        return physics.noise_support(self.scan.slices_hu)

    @cached_property
    def body(self) -> Tensor:
        """Pixels denser than -300 HU, ``(D, H, W)``."""
        return self.scan.slices_hu > BODY_HU

    @cached_property
    def parts(self) -> list[physics.Scan]:
        """Single slices."""
        return list(self.scan.one_by_one())

    @torch.no_grad()
    def reconstructed(self, errors: Sequence[Tensor]) -> Tensor:
        """Images ``(D, H, W)`` in HU of the errors ``(1, views, channels)`` of every slice; 0 on padding."""
        images = [part.reconstruct(error) for part, error in zip(self.parts, errors, strict=True)]
        return torch.cat(images) * self.support

    @cached_property
    def lengths_mm(self) -> list[dict[str, Tensor]]:
        """Water and bone on every ray of every slice: pixels above 200 HU are diluted bone, the others water."""
        return [self._lengths(part) for part in self.parts]

    @torch.no_grad()
    def _lengths(self, part: physics.Scan) -> dict[str, Tensor]:
        hu = torch.where(part.slices_hu < _PADDING_BELOW_HU, physics.AIR_HU, part.slices_hu)
        relative = (1.0 + hu / 1000.0).clamp_min(0.0) * self.spacing_mm
        bony = hu > BONE_HU
        ratio = per_mm("water") / per_mm("bone")
        water, bone = torch.where(bony, 0.0, relative), torch.where(bony, relative * ratio, 0.0)
        return {"water": part.projected(water), "bone": part.projected(bone)}

    def chord_mm(self, disc: Disc) -> Tensor:
        """Length of every ray in a disc, ``(1, views, channels)``."""
        geometry = self.scan.geometry
        angles = torch.from_numpy(geometry.angles).float().to(self.hu.device)[:, None]
        positions = torch.from_numpy(geometry.positions_px).float().to(self.hu.device) * self.spacing_mm
        away = positions - (disc.column * angles.cos() + disc.row * angles.sin())
        outer, inner = (2.0 * (radius**2 - away.square()).clamp_min(0.0).sqrt() for radius in (disc.radius, disc.inner))
        return (outer - inner)[None]

    def cover(self, disc: Disc) -> Tensor:
        """Share of every pixel that lies in a disc, ``(H, W)``."""
        distance = self.distance_mm(disc.row, disc.column)
        outer, inner = (((r - distance) / self.spacing_mm + 0.5).clamp(0.0, 1.0) for r in (disc.radius, disc.inner))
        return outer - inner if disc.inner > 0.0 else outer

    def distance_mm(self, row: float, column: float) -> Tensor:
        """Distance of every pixel from a point, ``(H, W)``."""
        rows, columns = (
            (torch.arange(size, device=self.hu.device) - (size - 1) / 2) * self.spacing_mm for size in self.hu.shape[1:]
        )
        return torch.hypot(rows[:, None] - row, columns - column)

    @torch.no_grad()
    def extra_noise(self, log_attenuation: Sequence[Tensor], *stream: object) -> list[Tensor]:
        """Noise that more attenuation ``(1, views, channels)`` adds to the rays of every slice.

        The variance of a ray with N counts rises by ``(e^p - 1) / N``, and not above that of the fewest quanta.
        """
        noise = []
        for part, more in zip(self.parts, log_attenuation, strict=True):
            before = self.inverse_i0 / part.transmission()
            after = (before * more.exp()).clamp_max(1.0 / FEWEST_QUANTA)
            noise.append(part.draw(*stream) * (after - before).clamp_min(0.0).sqrt())
        return noise

    @cached_property
    @torch.no_grad()
    def inverse_i0(self) -> float:
        """One over the quanta of a reading behind no object, so that the scan has the noise it shows."""
        probe = NoiseProbe.placed(self.scan.slices_hu, self.spacing_mm)
        if not probe.soft_tissue:
            return 1.0 / _NOMINAL_I0
        unit = torch.cat([p.reconstruct(p.draw("calibration") * p.transmission().rsqrt()) for p in self.parts])
        ratio = probe.level(self.scan.slices_hu) / probe.level(unit)
        return max(ratio**2, 1e-12)

    def with_error(self, error: Tensor) -> Tensor:
        """The slices with an error, ``(D, H, W)``."""
        return self.hu + error

    def sd_in_body(self, change: Tensor) -> float:
        """Standard deviation of a change over the body; NaN where there is none."""
        values = change.detach()[self.body]
        return float(values.std()) if values.numel() > 1 else math.nan


def per_mm(material: str) -> float:
    """Attenuation that the scanner takes a material to have: that of a beam behind 200 mm of water.

    >>> round(per_mm("water"), 4)
    0.0192
    """
    return _ct_beam.hardened_per_mm(material, water_mm=_PATH_MM)


def case_uniforms(seed: int, count: int, *parts: object) -> list[float]:
    """Numbers in [0, 1) that belong to a case, the same on every device."""
    draws: list[float] = torch.rand(count, generator=generator("cpu", seed, *parts)).tolist()
    return draws

"""Fewer photons behind a CT scan for another reason than the tube current: a larger patient, a lower tube voltage.

The noise is that of :mod:`robustbench_rad.shifts.ct_dose`, with a fraction of the photons for every case and a draw of its
own, so that it adds to the noise of a lower dose in variance when both are applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch

from robustbench_rad.conditions import Level, Measurement
from robustbench_rad.seeds import derive_seed
from robustbench_rad.shifts._extra_noise import ExtraNoise
from robustbench_rad.shifts._inputs import unclipped_spacing_mm
from robustbench_rad.shifts._levels import dose_level
from robustbench_rad.shifts.ct_dose import CtDose, spread

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch

_NO_NOISE = "no native noise to be read: no soft tissue, or no noise"


@dataclass(frozen=True, kw_only=True, eq=False)
class FewerPhotons:
    """What the levels share.

    Attributes:
        noise: The two noise images of the cases ``rows``; None when no case has them.
        rows: Cases whose pixel spacing is known.
        count: N.
        applicable: ``(N,)`` boolean: noise can be made for the case.
        reason: Why not for the others, in a few words.
    """

    noise: ExtraNoise | None
    rows: Tensor
    count: int
    applicable: Tensor
    reason: str

    @classmethod
    def of(cls, batch: Batch, *, stream: tuple[object, ...], least: float, electronic_noise_quanta: float) -> Self:
        """Make the noise images.

        Args:
            batch: Images or volumes in HU.
            stream: Whose draw it is: id and version of the shift.
            least: The smallest fraction of photons that will be asked for, in (0, 1].
            electronic_noise_quanta: See :class:`robustbench_rad.shifts.ct_dose.CtDose`.
        """
        spacing, reason = unclipped_spacing_mm(batch)
        rows = spacing.isfinite().nonzero().flatten()
        applicable = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
        own = replace(batch, seeds=tuple(derive_seed(seed, *stream) for seed in batch.seeds))
        scanner = CtDose(levels=(dose_level(least, ""),), electronic_noise_quanta=electronic_noise_quanta)
        noise = ExtraNoise.of(scanner, own.select(rows), spacing[rows]) if rows.numel() else None
        if noise is not None:
            applicable[rows] = noise.inverse_i0.isfinite()
            if not bool(applicable[rows].all()):
                reason = ", ".join(filter(None, (reason, _NO_NOISE)))
        return cls(noise=noise, rows=rows, count=len(batch), applicable=applicable, reason=reason)

    def added_to(self, images: Tensor, fractions: Sequence[float], level: Level) -> tuple[Tensor, list[Measurement]]:
        """Images with the noise of a fraction of photons in (0, 1] for each of the N cases, and what was inserted."""
        if self.noise is None:
            return images, []
        chosen = [fractions[row] for row in self.rows.tolist()]
        extra = self.noise.image(chosen)
        noisy = images.index_add(0, self.rows, extra)
        measured = self.noise.about_level(level, extra, noisy[self.rows], chosen)
        return noisy, spread(measured, self.rows, self.count)

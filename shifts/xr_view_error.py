"""A lateral radiograph filed under a frontal view.

A lateral cannot be made from a frontal image, so it is taken from a bank of the user's own; without one nothing is done.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch.nn import functional

from robustbench_rad.conditions import Level
from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.registry import register
from robustbench_rad.shifts._ladder import AlterLevel, Change
from robustbench_rad.shifts._radiograph import RadiographShift

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch
    from robustbench_rad.plan import Plan

_LATERAL = Level(name="lateral", value=1.0, unit="")
_NEEDED = 'a lateral cannot be made from a frontal image; give bank = "laterals.npz" with an array images (M, H, W)'


@register(
    id="shift.xr.view-error",
    version=1,
    space="physical",
    domain="acquisition-shift",
    kind="categorical",
    modalities=("CR", "DX"),
    reference="Rajpurkar et al. 2017, CheXNet, arXiv:1711.05225; arnoweng/CheXNet issue 11",
)
@dataclass(frozen=True, kw_only=True)
class XrViewError(RadiographShift):
    """A lateral radiograph of another patient in the place of the frontal one.

    Every case is given an image of the bank, drawn from its seed. Measured per level: ``bank_image``, its number.

    Attributes:
        levels: Only ``lateral``.
        bank: An .npz file with an array ``images`` ``(M, H, W)``: 8- or 16-bit unsigned over their whole range, or floats
            in [0, 1]. Relative to the plan's folder.
    """

    neutral: ClassVar[float | None] = 0.0

    levels: tuple[Level, ...] = (_LATERAL,)
    bank: str = ""

    @classmethod
    def level(cls, value: float | str) -> Level:
        """Make the level ``lateral`` (or 1), or ``frontal`` (or 0)."""
        if str(value) in {"lateral", "1", "1.0"}:
            return _LATERAL
        if str(value) in {"frontal", "0", "0.0"}:
            return Level(name="frontal", value=0.0, unit="")
        raise ValueError(f"expected lateral, got {value}")

    def bound(self, plan: Plan) -> Self:
        """The shift with the bank's path resolved against the plan.

        Raises:
            PlanError: There is no such file.
        """
        if not self.bank:
            return self
        path = plan.path(self.bank)
        if not path.is_file():
            raise PlanError(f"[checks.{self.id!r}] bank: no such file: {self.bank}", hint=_NEEDED)
        other = replace(self)
        object.__setattr__(other, "_path", path)  # no option: where a file lies does not describe what is measured
        return other

    @property
    def reads_sha256(self) -> str:
        """Hash of the bank.

        Raises:
            ImageError: It cannot be read.
        """
        from robustbench_rad.data.files import file_sha256

        return file_sha256(self._file) if self.bank else ""

    @property
    def _file(self) -> Path:
        found: Path = getattr(self, "_path", Path(self.bank))
        return found

    def images(self) -> Tensor:
        """The bank ``(M, 1, H, W)`` in [0, 1], read once.

        Raises:
            DataError: It cannot be read, or is not as described.
        """
        known: Tensor | None = getattr(self, "_images", None)
        if known is None:
            known = read_bank(self._file)
            object.__setattr__(self, "_images", known)
        return known

    def prepare_levels(self, batch: Batch) -> AlterLevel:
        """Draw an image of the bank for each case."""
        if not self.bank:
            nowhere = torch.zeros(len(batch), dtype=torch.bool, device=batch.device)
            return lambda _: Change(images=batch.images, applicable=nowhere, reason=_NEEDED)
        bank = self.images()
        numbers = (self.uniform(batch, 1, "bank")[:, 0].cpu() * len(bank)).long()
        height, width = batch.images.shape[-2:]
        chosen = bank[numbers].to(batch.images)
        laterals = functional.interpolate(chosen, (height, width), mode="bilinear", antialias=True).clamp(0.0, 1.0)

        def render(level: Level) -> Change:
            del level
            return Change(
                images=laterals.clone(),
                measured={"bank_image": numbers.to(laterals)},
                attributes={"ViewPosition": "LL"},
            )

        return render


def read_bank(path: Path) -> Tensor:
    """Read ``images`` of an .npz file as ``(M, 1, H, W)`` float32 in [0, 1]; pickled arrays are refused.

    Raises:
        DataError: The file cannot be read, or its images are not as expected; says what came.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = archive["images"]
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name}: expected an .npz file with an array images: {error}") from error
    if images.ndim != 3 or 0 in images.shape:
        raise DataError(f"{path.name}: expected images of shape (M, H, W), got {images.shape}")
    if images.dtype in (np.uint8, np.uint16):
        images = images / np.float32(np.iinfo(images.dtype).max)
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{path.name}: expected 8- or 16-bit unsigned grey levels or floats, got {images.dtype}")
    if not (np.isfinite(images).all() and images.min() >= 0.0 and images.max() <= 1.0):
        raise DataError(f"{path.name}: expected floats in [0, 1], got values outside or NaN")
    return torch.from_numpy(images.astype(np.float32))[:, None]

"""Providers of anatomy masks: who says where the organ is when the data set itself does not.

A provider is any function ``(image, *, unit, spacing_mm) -> mask``. It is named in the plan, ``provider = "hull"``, as one
of :data:`NAMED`, as an entry point of the group ``robustbench_rad.anatomy``, or by import string, ``"package.module:function"``
or ``"path/to/file.py:function"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from robustbench_rad.errors import DataError, suggestion
from robustbench_rad.factories import explained, import_named

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Unit

KEY = "data.anatomy.provider"
GROUP = "robustbench_rad.anatomy"
HULL = "hull"
NAMED: Mapping[str, str] = {
    HULL: "robustbench_rad.anatomy_providers:hull",
    "torchxrayvision": "robustbench_rad.anatomy_torchxrayvision:lungs_and_heart",
}


class AnatomyProvider(Protocol):
    """Finds the anatomy in one image."""

    def __call__(self, image: Tensor, *, unit: Unit, spacing_mm: tuple[float, ...] | None) -> Tensor:
        """Boolean mask of the shape of ``image``, ``(1, H, W)`` or ``(1, D, H, W)``, native sampling.

        Args:
            image: In ``unit``; radiographs in the range that the plan declares. Not to be changed.
            unit: HU, signal or magnitude.
            spacing_mm: Row, column (slice, row, column) spacing, or None where it is not known.
        """
        ...


def hull(image: Tensor, *, unit: Unit, spacing_mm: tuple[float, ...] | None) -> Tensor:
    """The body: the largest region above a threshold, holes filled; see :func:`robustbench_rad.masks.hull_mask`."""
    from robustbench_rad.masks import hull_mask

    del spacing_mm
    return hull_mask(image, unit)


@dataclass(frozen=True, kw_only=True)
class NamedProvider:
    """A provider by its name, found when it is first asked: it travels to worker processes as two strings.

    Attributes:
        name: As the plan says it.
        base: The plan's folder.
    """

    name: str
    base: Path

    def mask(self, image: Tensor, *, unit: Unit, spacing_mm: tuple[float, ...] | None, reference: str) -> Tensor:
        """The mask of one case.

        Args:
            image: As for :class:`AnatomyProvider`.
            unit: Likewise.
            spacing_mm: Likewise.
            reference: The case, for messages.

        Raises:
            DataError: No such provider, it raised, or it did not return a mask of the shape of the image.
        """
        import torch

        provider = _found(self.name, self.base)
        with explained(f"{KEY} = {self.name!r}: {reference}", DataError, "Call it in Python by itself to see why."):
            mask = provider(image, unit=unit, spacing_mm=spacing_mm)
        if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool or mask.shape != image.shape:
            got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, torch.Tensor) else type(mask).__name__
            raise DataError(
                f"{KEY} = {self.name!r}: {reference}: expected a boolean tensor of the shape of the image "
                f"{tuple(image.shape)}, got {got}",
                hint="Return (1, H, W) or (1, D, H, W) torch.bool, True inside the anatomy.",
            )
        return mask.to(image.device)


@cache
def _found(name: str, base: Path) -> AnatomyProvider:
    return import_named(import_string(name), base=base, kind=DataError, key=KEY)


def import_string(name: str) -> str:
    """Where the provider of a name lies.

    Raises:
        DataError: A name that nobody has; the nearest is named.
    """
    if ":" in name:
        return name
    known = {**{point.name: point.value for point in entry_points(group=GROUP)}, **NAMED}
    if name not in known:
        hint = f"{suggestion(name, known)} Or name a function: 'package.module:function'."
        raise DataError(f"{KEY} = {name!r}: no such provider", hint=hint)
    return known[name]

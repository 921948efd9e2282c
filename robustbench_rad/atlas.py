"""An atlas of the anatomy: one mask that stands for all cases, ``[data.anatomy] atlas``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from robustbench_rad.errors import DataError, PlanError
from robustbench_rad.masks import load_atlas, refit_mask, resize_mask
from robustbench_rad.misfits import Misfit, size_text

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.classifier import InputSpec
    from robustbench_rad.plan import Plan

KEY = "data.anatomy.atlas"
AXES = {2: "a plane of rows × columns", 3: "slices × rows × columns"}


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """One mask for all cases, at its own sampling.

    It is laid over an image of its own size as it is, over a plane of the same aspect ratio (within 1 %) by nearest
    neighbour, and, when it has the size of the model's input, over what the model is shown of an image of any size. At the
    model's input it is the same mask for every case, so that its outline tells nothing of a case.

    Attributes:
        sha256: Hash of the file.
        mask: ``(1, H, W)`` or ``(1, D, H, W)`` boolean.
        spec: The model's input.
    """

    sha256: str
    mask: Tensor = field(repr=False, compare=False)
    spec: InputSpec

    @property
    def size(self) -> tuple[int, ...]:
        """``(H, W)`` or ``(D, H, W)`` of the file."""
        return tuple(self.mask.shape[1:])

    @cached_property
    def at_input(self) -> Tensor:
        """``(1, *spec.size)`` boolean: the mask in display geometry, as the images are."""
        return resize_mask(self.mask, self.spec)

    def on(self, shape: tuple[int, ...]) -> Tensor | Misfit:
        """The mask on the grid of an image, or of which other size it is.

        Args:
            shape: ``(H, W)`` or ``(D, H, W)`` of the image.

        Returns:
            ``(1, *shape)`` boolean; empty where the model is not shown the image.
        """
        if self.size == shape:
            return self.mask
        if self.size == self.spec.size:
            return laid_back(self.mask, shape, self.spec)
        fitted = refit_mask(self.mask, shape)
        return Misfit(expected=shape, got=self.size, at_input=self.spec.size) if fitted is None else fitted


def read_atlas(plan: Plan, *, volumes: bool) -> Atlas | None:
    """Read the plan's atlas; None when it names none.

    Raises:
        PlanError: The file is missing, unreadable, empty, covers nearly everything, or has another number of axes than the
            images.
    """
    from robustbench_rad.data.files import file_sha256
    from robustbench_rad.loading import input_spec

    name = None if plan.data.anatomy is None else plan.data.anatomy.atlas
    if name is None:
        return None
    path = plan.path(name)
    try:
        mask, sha256 = load_atlas(path), file_sha256(path)
    except DataError as error:
        raise PlanError(f"{KEY} = {name!r}: {error.message}", hint=_expected(volumes=volumes)) from error
    axes, given = 3 if volumes else 2, mask.ndim - 1
    if given != axes:
        got = f"{given} {'axis' if given == 1 else 'axes'}: {size_text(tuple(mask.shape[1:]))}"
        raise PlanError(f"{KEY} = {name!r}: {path}: expected {AXES[axes]}, got {got}", hint=_expected(volumes=volumes))
    return Atlas(sha256=sha256, mask=mask, spec=input_spec(plan.model.input))


def _expected(*, volumes: bool) -> str:
    kinds = "NPY, NPZ or NIfTI" if volumes else "PNG, TIFF, NPY, NPZ or NIfTI"
    return (
        f"Give one mask for all cases ({kinds}), not 0 inside the anatomy and 0 elsewhere; a path is taken relative to the "
        "plan, or to --root."
    )


def laid_back(mask: Tensor, shape: Sequence[int], spec: InputSpec) -> Tensor:
    """A mask of display geometry on the grid of an image: each pixel is what its centre is shown as, outside if not shown.

    Args:
        mask: ``(1, *spec.size)`` boolean.
        shape: Spatial size of the image.
        spec: The model's input.

    Returns:
        ``(1, *shape)`` boolean.

    >>> import torch
    >>> from robustbench_rad.classifier import InputSpec, Resize
    >>> half = torch.tensor([[[True, False], [True, False]]])
    >>> laid_back(half, (1, 4), InputSpec(size=(2, 2))).int().tolist()
    [[[1, 1, 0, 0]]]
    >>> laid_back(half, (2, 4), InputSpec(size=(2, 2), resize=Resize.CROP)).int().tolist()
    [[[0, 1, 0, 0], [0, 1, 0, 0]]]
    """
    found = mask
    for axis, places in enumerate(spec.display_places(shape), start=1):
        side = spec.size[axis - 1]
        shown = (places >= 0) & (places < side)
        found = found.index_select(axis, places.clamp(0, side - 1).to(mask.device))
        found = found & shown.to(mask.device).reshape([-1 if n == axis else 1 for n in range(found.ndim)])
    return found

"""Masks of anatomy and lesions: read from a file or boxes, found as the hull of the body, brought to display geometry."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import DataError
from robustbench_rad.misfits import Misfit, size_text

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.classifier import InputSpec

BODY_HU = -500.0  # between air (-1000) and fat (-100)
ASPECT_TOLERANCE = 0.01
COVERS_TOO_MUCH = 0.95
HALF, TOUCHED = (
    0.5,
    1e-6,
)  # share of a pixel of the model's input; 1e-6 is above rounding, below one pixel of 512³ in 8³
OTSU_BINS = 256

Bools = npt.NDArray[np.bool_]
BOX_SLACK_PX = 0.5  # annotation tools round


@dataclass(frozen=True, kw_only=True, order=True)
class Box:
    """A rectangle in pixels of the stored image: ``x`` to the right and ``y`` down from its upper left corner."""

    x: float
    y: float
    width: float
    height: float


def box_mask(boxes: Iterable[Box], shape: tuple[int, ...]) -> Tensor:
    """Mask of every pixel that a box touches.

    Args:
        boxes: The boxes; none gives an empty mask.
        shape: ``(H, W)`` of the image.

    Returns:
        ``(1, H, W)`` boolean.

    Raises:
        DataError: The image is no plane, or a box reaches beyond it by more than half a pixel; names both.

    >>> box_mask([Box(x=1, y=0, width=1.5, height=1)], (2, 4)).int().tolist()
    [[[0, 1, 1, 0], [0, 0, 0, 0]]]
    """
    import torch

    mask = torch.zeros((1, *shape), dtype=torch.bool)
    for box in boxes:
        if len(shape) != 2:
            raise DataError(f"data.lesion.boxes: boxes are drawn on planes, got an image of {size_text(shape)}")
        height, width = shape
        over = max(-box.x, -box.y, box.x + box.width - width, box.y + box.height - height)
        if over > BOX_SLACK_PX:
            raise DataError(
                f"data.lesion.boxes: expected boxes inside the image, {width} wide and {height} high, got one at "
                f"x = {box.x:g}, y = {box.y:g}, {box.width:g} wide and {box.height:g} high",
                hint="Boxes are in pixels of the image as it is stored, not as the model is shown it.",
            )
        top, left = max(0, math.floor(box.y)), max(0, math.floor(box.x))
        mask[0, top : math.ceil(box.y + box.height), left : math.ceil(box.x + box.width)] = True
    return mask


def load_mask(path: Path, shape: tuple[int, ...] | None = None) -> Tensor:
    """Read a mask; every value other than 0 is inside.

    Args:
        path: PNG, TIFF, NPY, NPZ (one array, or one named ``mask``) or NIfTI.
        shape: ``(H, W)`` or ``(D, H, W)`` of its image. A plane of another size but the same aspect ratio (within 1 %)
            is brought to it by nearest neighbour.

    Returns:
        ``(1, *shape)`` boolean.

    Raises:
        DataError: Unreadable, or of another size; names both sizes.
    """
    mask = read_mask(path, shape)
    if isinstance(mask, Misfit):
        raise DataError(
            f"{path}: {mask}",
            hint="A mask may differ in size from its image only when the aspect ratio is the same within 1 %.",
        )
    return mask


def read_mask(path: Path, shape: tuple[int, ...] | None = None) -> Tensor | Misfit:
    """As :func:`load_mask`, but a mask of another size is said, not raised.

    Raises:
        DataError: Unreadable.
    """
    mask = _decode(path)
    fitted = mask if shape is None or mask.shape == shape else _refit(mask, shape)
    return Misfit(expected=shape or (), got=mask.shape) if fitted is None else _boolean(fitted)


def mask_of(given: npt.NDArray[Any], shape: tuple[int, ...]) -> Tensor | Misfit:
    """A mask in memory as ``(1, *shape)`` boolean, or of which other size it is.

    >>> mask_of(np.ones((2, 3)), (2, 2))
    Misfit(expected=(2, 2), got=(2, 3), at_input=())
    """
    return _boolean(given != 0) if given.shape == shape else Misfit(expected=shape, got=given.shape)


def _boolean(mask: Bools) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(mask))[None]


def load_atlas(path: Path) -> Tensor:
    """Read one mask that stands for all images, ``(1, H, W)`` boolean at its own sampling.

    Raises:
        DataError: Unreadable, empty, or covering nearly everything.
    """
    atlas = load_mask(path)
    problem = mask_problem(atlas)
    if problem is not None:
        raise DataError(
            f"{path}: the atlas {problem}", hint="An atlas is a mask: not 0 inside the anatomy, 0 elsewhere."
        )
    return atlas


def refit_mask(mask: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A plane at the size of an image of the same aspect ratio (within 1 %) by nearest neighbour; None for any other.

    >>> import torch
    >>> refit_mask(torch.tensor([[[True, False]]]), (2, 4)).int().tolist()
    [[[1, 1, 0, 0], [1, 1, 0, 0]]]
    """
    fitted = _refit(mask[0].cpu().numpy(), shape)
    return None if fitted is None else _boolean(fitted)


def mask_problem(mask: Tensor) -> str | None:
    """Say what is wrong with a mask, or None.

    >>> import torch
    >>> mask_problem(torch.zeros(1, 4, 4, dtype=torch.bool))
    'is empty'
    """
    covered = float(mask.float().mean()) if mask.numel() else 0.0
    if covered == 0.0:
        return "is empty"
    if covered > COVERS_TOO_MUCH:
        return f"covers {covered:.0%} of the image"
    return None


def resize_mask(mask: Tensor, spec: InputSpec, *, touched: bool = False) -> Tensor:
    """Bring a mask to display geometry as the images are; a pixel over half covered is inside.

    Args:
        mask: ``(1, H, W)`` or ``(N, 1, H, W)`` boolean at native sampling (one more axis for volumes).
        spec: The model's input.
        touched: A pixel that shows any of it is inside, so that a lesion smaller than a pixel does not vanish.

    Returns:
        Boolean of the same number of axes, spatial size ``spec.size``; padding is outside.
    """
    batched = mask if mask.ndim == len(spec.size) + 2 else mask[None]
    area = replace(spec, interpolation="bilinear", antialias=True)
    inside = area.resized(batched.float()) > (TOUCHED if touched else HALF)
    return inside if mask.ndim == inside.ndim else inside[0]


def hull_mask(image: Tensor, unit: Unit) -> Tensor:
    """Find the body: the largest connected region above a threshold, holes filled.

    The threshold is -500 HU for CT, else Otsu's (1979, doi:10.1109/TSMC.1979.4310076) between background and body; that of MR
    magnitude is found between its first and 99th percentile, where fat and vessels do not stretch the scale.

    Args:
        image: ``(1, H, W)`` or ``(1, D, H, W)`` in ``unit``.
        unit: Unit of the image.

    Returns:
        Boolean mask of the shape of ``image``; empty when nothing stands out.
    """
    import torch

    plane = image[0].detach().cpu().numpy()
    seen = np.clip(plane, *np.percentile(plane, (1.0, 99.0))) if unit is Unit.MAGNITUDE else plane
    threshold = BODY_HU if unit is Unit.HU else otsu_threshold(seen)
    body = _filled(_largest_component(plane > threshold))
    return torch.from_numpy(np.ascontiguousarray(body))[None].to(image.device)


def otsu_threshold(values: npt.NDArray[Any]) -> float:
    """Value that maximises the variance between the two classes it separates; the largest value of a flat image.

    >>> round(otsu_threshold(np.array([9.0, 10.0, 90.0, 91.0])))
    50
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return high
    counts, edges = np.histogram(values, bins=OTSU_BINS, range=(low, high))
    below = np.cumsum(counts)[:-1]  # both classes hold at least the end bins, so neither is ever empty
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    between = (sums[-1] * below / values.size - sums[:-1]) ** 2 / (below * (values.size - below))
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + best].mean())


def _largest_component(inside: Bools) -> Bools:
    from scipy import ndimage

    regions, count = ndimage.label(inside)
    if count < 2:
        return inside
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return np.asarray(regions == sizes.argmax())


def _filled(body: Bools) -> Bools:
    """Fill holes plane by plane: lungs of a volume are open to the outside only at its ends."""
    from scipy import ndimage

    planes = body if body.ndim == 3 else body[None]
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in planes]).astype(bool)
    return filled if body.ndim == 3 else filled[0]


def _decode(path: Path) -> Bools:
    if not path.is_file():
        raise DataError(f"{path}: no such mask file")
    name = path.name.lower()
    if name.endswith((".npz", ".npy")):
        values = _numpy_array(path)
    elif name.endswith((".nii", ".nii.gz")):
        from robustbench_rad.data.nifti import nifti_array

        values = nifti_array(path)[0]
    else:
        return _raster_mask(path)
    values = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
    return np.asarray(np.nan_to_num(values) != 0)


def _raster_mask(path: Path) -> Bools:
    """Any colour other than black is inside; alpha does not count."""
    from PIL import Image

    from robustbench_rad.data.images import decoding

    with decoding(str(path)), Image.open(path) as image:
        image.load()
        flat = image.convert("RGB") if image.mode in ("P", "PA", "RGBA", "CMYK", "YCbCr") else image
        values = np.array(flat.getchannel(0) if flat.mode == "LA" else flat)
    return np.asarray(values.any(axis=2) if values.ndim == 3 else values != 0)


def _numpy_array(path: Path) -> npt.NDArray[Any]:
    from robustbench_rad.data.images import decoding

    with decoding(str(path)), path.open("rb") as file:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            name = "mask" if "mask" in archive.files or len(archive.files) != 1 else archive.files[0]
            if name not in archive.files:
                raise DataError(f"{path}: expected one array or one named 'mask', got {', '.join(archive.files)}")
            array: npt.NDArray[Any] = archive[name]
            return array


def _refit(mask: Bools, shape: tuple[int, ...]) -> Bools | None:
    """The mask at the size of its image by nearest neighbour; None where the aspect ratio is another."""
    if mask.ndim != 2 or len(shape) != 2 or not _same_aspect(mask.shape, shape):
        return None
    rows, columns = (
        np.minimum((np.arange(target) + 0.5) * given / target, given - 1).astype(np.int64)
        for given, target in zip(mask.shape, shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _same_aspect(given: tuple[int, ...], target: tuple[int, ...]) -> bool:
    if min(*given, *target) == 0:
        return False
    return abs(given[0] * target[1] / (given[1] * target[0]) - 1.0) <= ASPECT_TOLERANCE

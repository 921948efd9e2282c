"""What can be planted: six marks that an image may carry and a model may have learned, drawn and detected.

A defect draws itself into images, and is seen by a fixed detector whose response is 0 on average without it and 1 with it.
Detectors are :class:`torch.nn.Module`, so a constructed model is a sum of them and goes through every audit like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from robustbench_rad.planted.phantoms import LUNGS_X, SIDE, Images, Phantoms, phantoms
from robustbench_rad.seeds import derive_seed

CALIBRATION_CASES = 400
DEVICE_X = LUNGS_X
Draw = Callable[[Images, NDArray[np.bool_], np.random.Generator], Images]
Detect = Callable[[Tensor], Tensor]

LETTER = np.array(
    [[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=np.float32
)  # L, as text is burned in


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A mark that goes with the label in the data, and that a model may have learned.

    Attributes:
        name: In words.
        draw: Draws it into images ``(N, S, S)``, given the anatomy masks and a generator.
        detect: Raw response ``(N,)`` of the detector to images ``(N, 1, S, S)``; monotone in the presence of the mark.
    """

    name: str
    draw: Draw
    detect: Detect

    def calibrated(self) -> tuple[float, float]:
        """Mean raw response without and with the mark, on phantoms made for this."""
        given = phantoms(CALIBRATION_CASES, seed=-1)
        rng = np.random.default_rng(derive_seed("planted.calibration", self.name))
        drawn = self.draw(given.images, given.anatomy, rng)
        means = [float(self.detect(_tensor(images)).mean()) for images in (given.images, drawn)]
        return means[0], means[1]


def _tensor(images: Images) -> Tensor:
    return torch.from_numpy(np.clip(images, 0, 1))[:, None]


def carried_by(given: Phantoms, association: float) -> NDArray[np.bool_]:
    """Who carries the mark: P(mark | disease) = 1 - P(mark | no disease) = ``association``."""
    rng = np.random.default_rng(derive_seed("planted.carried", 1, given.seed))
    chance = np.where(given.labels == 1, association, 1 - association)
    return np.asarray(rng.random(len(given)) < chance)


def with_defect(given: Phantoms, defect: Defect, carried: NDArray[np.bool_]) -> Images:
    """The images, with the mark drawn into those that carry it; every mark is at a place of its own."""
    rng = np.random.default_rng(derive_seed("planted.drawn", 1, given.seed))
    drawn = defect.draw(given.images, given.anatomy, rng)
    return np.where(carried[:, None, None], drawn, given.images)


def _stamped(images: Images, stamp: Images, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Images:
    """The images with a patch added at a place of each."""
    found = images.copy()
    height, width = stamp.shape
    case = np.arange(len(images))[:, None, None]
    down = rows[:, None, None] + np.arange(height)[None, :, None]
    across = columns[:, None, None] + np.arange(width)[None, None, :]
    found[case, down, across] += stamp
    return found


def _corner_marker(images: Images, anatomy: NDArray[np.bool_], rng: np.random.Generator) -> Images:
    """A lead marker of 4 x 3 pixels in the upper left corner."""
    del anatomy
    rows, columns = 3 + rng.integers(-1, 2, len(images)), 4 + rng.integers(-1, 2, len(images))
    return _stamped(images, np.full((4, 3), 0.35, np.float32), rows, columns)


def _text(images: Images, anatomy: NDArray[np.bool_], rng: np.random.Generator) -> Images:
    """A burned-in letter in the upper right corner."""
    del anatomy
    rows, columns = 2 + rng.integers(0, 2, len(images)), SIDE - 8 + rng.integers(0, 2, len(images))
    return _stamped(images, 0.3 * LETTER, rows, columns)


def _collimation(images: Images, anatomy: NDArray[np.bool_], rng: np.random.Generator) -> Images:
    """A shutter that leaves a dark frame of two or three pixels."""
    del anatomy
    width = 2 + rng.integers(0, 2, len(images))
    index = np.arange(SIDE)
    edge = np.minimum(index, SIDE - 1 - index)
    ring = np.minimum(edge[:, None], edge[None, :])[None] < width[:, None, None]
    return np.where(ring, np.float32(0.02), images)


def _kernel(images: Images, anatomy: NDArray[np.bool_], rng: np.random.Generator) -> Images:
    """A sharper reconstruction or processing kernel, everywhere."""
    del anatomy, rng
    sharper: Images = images + np.float32(0.45) * (images - gaussian_filter(images, (0, 1, 1)))
    return sharper


def _device(images: Images, anatomy: NDArray[np.bool_], rng: np.random.Generator) -> Images:
    """A thin line over one lung, as a catheter or drain."""
    count = len(images)
    x = SIDE * np.where(rng.random(count) < 0.5, *DEVICE_X)[:, None, None]
    slope = rng.uniform(-0.3, 0.3, count)[:, None, None]
    rows, columns = np.arange(SIDE)[None, :, None], np.arange(SIDE)[None, None, :]
    line = np.abs(columns - x - slope * (rows - SIDE / 2)) < 0.7
    return np.asarray(images + np.float32(0.10) * (line & anatomy), dtype=np.float32)


def _offset(images: Images, anatomy: NDArray[np.bool_], rng: np.random.Generator) -> Images:
    """Another brightness of the whole film."""
    del anatomy, rng
    return images + np.float32(0.05)


def _window(rows: slice, columns: slice) -> Detect:
    """Mean grey value of a rectangle."""
    return lambda images: images[:, 0, rows, columns].mean((1, 2))


def _ring(images: Tensor) -> Tensor:
    """How dark the outermost two pixels are."""
    inner = images[:, 0, 2:-2, 2:-2].sum((1, 2))
    return -(images[:, 0].sum((1, 2)) - inner) / (SIDE**2 - (SIDE - 4) ** 2)


def blurred(images: Tensor, sigma_px: float) -> Tensor:
    """Separable Gaussian blur of ``(N, 1, S, S)``, edges repeated; two matrix products, for so few pixels the fastest way."""
    blur = _blur_matrix(images.shape[-1], sigma_px).to(images)
    return blur @ images @ blur.T


@cache
def _blur_matrix(side: int, sigma_px: float) -> Tensor:
    """``(S, S)``: row i holds the weights of all pixels of a line in its blurred pixel i."""
    radius = int(np.ceil(3 * sigma_px))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * sigma_px**2))
    source = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, source, (weights / weights.sum()).expand(side, -1))


def _fine_texture(images: Tensor) -> Tensor:
    """Standard deviation of what a blur of one pixel takes away."""
    return (images - blurred(images, 1.0)).square().mean((1, 2, 3)).sqrt()


def _line(images: Tensor) -> Tensor:
    """Brightest of the lines that a device may take, against what lies beside it."""
    rows = torch.arange(15, 34, device=images.device)
    places = [(x, slope / 10) for x in DEVICE_X for slope in range(-3, 4)]
    columns = torch.stack([(SIDE * x + slope * (rows - SIDE / 2)).round().long() for x, slope in places])
    plane = images[:, 0]
    line = plane[:, rows, columns].mean(-1)
    beside = [plane[:, rows, columns + shift].mean(-1) for shift in (-3, -2, 2, 3)]
    return (line - torch.stack(beside).mean(0)).amax(1)


def _brightness(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3))


DEFECTS: Mapping[str, Defect] = {
    defect.name: defect
    for defect in (
        Defect(name="corner marker", draw=_corner_marker, detect=_window(slice(2, 9), slice(3, 9))),
        Defect(name="burned-in text", draw=_text, detect=_window(slice(2, 9), slice(SIDE - 8, SIDE - 2))),
        Defect(name="collimation", draw=_collimation, detect=_ring),
        Defect(name="kernel", draw=_kernel, detect=_fine_texture),
        Defect(name="device in the lung", draw=_device, detect=_line),
        Defect(name="intensity offset", draw=_offset, detect=_brightness),
    )
}

"""Chest phantoms by the thousand: two lungs in a body, a lesion where the label says so. Crude, and fast.

All drawing is in NumPy on whole sets, ``(N, S, S)`` float32 with S = 48. A set is a function of its seed and options alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustbench_rad.seeds import derive_seed

SIDE = 48
NOISE = 0.06
BACKGROUND, BODY, LUNG = 0.15, 0.40, -0.22
CONTRAST = (0.07, 0.22)  # of a lesion: read at an AUROC near 0.88
LESION_PX = 1.8  # standard deviation of its Gaussian
LUNGS_X = (0.32, 0.68)  # centres, in shares of the side

Images = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantoms:
    """A set of phantoms before any defect is drawn.

    Attributes:
        images: ``(N, S, S)`` display units, noise included, not clipped.
        labels: ``(N,)`` 1.0 where there is disease.
        anatomy: ``(N, S, S)`` masks of the organs.
        seed: Of the set; what is drawn on top derives from it.
    """

    images: Images
    labels: NDArray[np.float64]
    anatomy: Mask
    seed: int

    def __len__(self) -> int:
        return len(self.labels)


def phantoms(count: int, seed: int, *, lung_size_by_label: float = 0.0, heart_size_by_label: float = 0.0) -> Phantoms:
    """Draw a set of phantoms; one image per patient, half of them with disease in expectation.

    Args:
        count: N.
        seed: Names the set.
        lung_size_by_label: Relative difference in lung size between the labels: the outline of the mask tells the label.
        heart_size_by_label: Relative difference in the width of the heart. Where it is not 0 a heart is drawn, it is part of
            the anatomy, and it is the disease: no lesion is drawn.
    """
    rng = np.random.default_rng(derive_seed("planted.phantoms", 1, seed))
    labels = (rng.random(count) < 0.5).astype(np.float64)
    centre_y = SIDE * 0.5 + rng.normal(size=count)
    size = 1 + 0.06 * rng.normal(size=count) + lung_size_by_label * (labels - 0.5)
    left, right = (SIDE * x + rng.normal(size=count) for x in LUNGS_X)
    lungs = ellipse(left, centre_y, 6.2 * size, 12 * size) | ellipse(right, centre_y, 6.2 * size, 12 * size)
    body = ellipse(np.full(count, SIDE / 2), np.full(count, SIDE / 2), np.full(count, 21.0), np.full(count, 23.0))
    phase = rng.uniform(0, 6, size=(count, 1, 1))
    ribs = 0.03 * np.sin(0.9 * np.arange(SIDE)[None, :, None] + phase)
    images = BACKGROUND + (BODY + ribs) * body + LUNG * lungs
    anatomy = lungs
    if heart_size_by_label:
        width = 6.0 * (1 + 0.10 * rng.normal(size=count) + heart_size_by_label * (labels - 0.5))
        heart = ellipse(np.full(count, SIDE / 2), centre_y + 4, width, np.full(count, 6.0))
        images, anatomy = np.where(heart & lungs, images - LUNG, images), lungs | heart
    else:
        images = images + _lesions(rng, labels, np.where(rng.random(count) < 0.5, left, right), centre_y, size)
    images = images + rng.normal(0, NOISE, size=images.shape)
    return Phantoms(images=images.astype(np.float32), labels=labels, anatomy=anatomy, seed=seed)


def ellipse(
    x: NDArray[np.float64], y: NDArray[np.float64], half_x: NDArray[np.float64], half_y: NDArray[np.float64]
) -> Mask:
    """Filled ellipses ``(N, S, S)`` from ``(N,)`` centres and half axes in pixels."""
    rows, columns = np.arange(SIDE)[None, :, None], np.arange(SIDE)[None, None, :]
    across = (columns - x[:, None, None]) / half_x[:, None, None]
    down = (rows - y[:, None, None]) / half_y[:, None, None]
    return np.asarray(across**2 + down**2 < 1)


def _lesions(
    rng: np.random.Generator,
    labels: NDArray[np.float64],
    lung_x: NDArray[np.float64],
    lung_y: NDArray[np.float64],
    size: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A Gaussian blob somewhere in one lung of the diseased."""
    count = len(labels)
    x = lung_x + rng.uniform(-0.5, 0.5, count) * 6.2 * size
    y = lung_y + rng.uniform(-0.6, 0.6, count) * 12 * size
    contrast = labels * rng.uniform(*CONTRAST, count)
    rows, columns = np.arange(SIDE)[None, :, None], np.arange(SIDE)[None, None, :]
    squared = (columns - x[:, None, None]) ** 2 + (rows - y[:, None, None]) ** 2
    return np.asarray(contrast[:, None, None] * np.exp(-squared / (2 * LESION_PX**2)))

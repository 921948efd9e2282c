"""Procedural chest radiographs: one phantom is a function of (seed, index) and nothing else.

A patient's chest is brought to the detector by a small shift, tilt and magnification, and read out by one of two
scanners. These are crude pictures to test an auditor on, not anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from robustbench_rad.demo.anatomy import SIZE, Image, chest, grid, lungs, make_anatomy, opacity
from robustbench_rad.seeds import derive_seed

Mask = NDArray[np.bool_]

FIELD_MM = 350.0
SPACING_MM = FIELD_MM / SIZE
VERSION = 1
"""Part of every seed: a change of the drawing is a new set of phantoms."""

GLYPHS = {
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
}


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """A detector with its processing.

    Attributes:
        name: How it appears in the metadata.
        blur_px: Standard deviation of the kernel's blur.
        edge_gain: Strength of the unsharp mask.
        noise: Standard deviation of the noise before the kernel, display units.
    """

    name: str
    blur_px: float
    edge_gain: float
    noise: float


SCANNERS = (
    Scanner(name="sharp", blur_px=0.0, edge_gain=0.35, noise=0.012),
    Scanner(name="soft", blur_px=0.55, edge_gain=0.0, noise=0.010),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """One radiograph with everything that is known of it.

    Attributes:
        index: Its number in the set.
        image: ``(SIZE, SIZE)`` stored grey values, 8 bit.
        label: 1 where a lesion was drawn.
        patient: Number of the patient; two of three patients have two images.
        scanner: Name of the scanner.
        marker: Whether a laterality marker was drawn.
        lungs: ``(SIZE, SIZE)`` mask of the lungs.
        lesions: ``(SIZE, SIZE)`` mask of the lesions (where they add more than half of their contrast).
    """

    index: int
    image: NDArray[np.uint8]
    label: int
    patient: int
    scanner: str
    marker: bool
    lungs: Mask
    lesions: Mask


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What is fixed before anything is drawn."""

    patient: int
    label: int
    scanner: Scanner


def slot(index: int) -> Slot:
    """Patient, label and scanner of a case, exactly balanced over every twenty cases.

    Five cases come from three patients: one has one image, two have an image from each scanner. Labels alternate from
    patient to patient, and within a label both scanners are equally frequent, so neither tells anything of the other.

    >>> [slot(i).patient for i in range(6)]
    [0, 1, 1, 2, 2, 3]
    >>> sum(slot(i).label for i in range(20)), sum(slot(i).label for i in range(20) if slot(i).scanner.name == "sharp")
    (10, 5)
    """
    block, place = divmod(index, 5)
    rank = (place + 1) // 2
    return Slot(patient=3 * block + rank, label=(rank + block) % 2, scanner=SCANNERS[(index + index // 10) % 2])


def phantom(
    seed: int, index: int, *, association: float = 0.5, marker: bool | None = None, dose_fraction: float = 1.0
) -> Phantom:
    """Draw case ``index`` of the set ``seed``.

    Args:
        seed: Names the set.
        index: Number of the case.
        association: P(marker | lesion) = 1 − P(marker | no lesion); 0.5 tells nothing of the label.
        marker: Draw (or leave out) the marker whatever the association says; everything else stays pixel by pixel.
        dose_fraction: Exposure relative to the reference; the same noise field grows by its inverse square root.
    """
    planned = slot(index)
    anatomy = make_anatomy(_rng(seed, "patient", planned.patient), planned.label)
    rng = _rng(seed, "image", index)
    x, y = _positioned(rng)
    opacities = [opacity(lesion, x, y) for lesion in anatomy.lesions]
    image = _tone(chest(anatomy, x, y) + sum(opacities), rng)
    glyph = _glyph(rng)
    present = _has_marker(seed, index, association) if marker is None else marker
    read = _read_out(np.maximum(image, glyph) if present else image, planned.scanner, dose_fraction, rng)
    outlines = [added > lesion.contrast / 2 for added, lesion in zip(opacities, anatomy.lesions, strict=True)]
    return Phantom(
        index=index,
        image=np.rint(255.0 * read).astype(np.uint8),
        label=planned.label,
        patient=planned.patient,
        scanner=planned.scanner.name,
        marker=present,
        lungs=lungs(anatomy, x, y) > 0.5,
        lesions=np.any(outlines, axis=0) if outlines else np.zeros((SIZE, SIZE), bool),
    )


def _has_marker(seed: int, index: int, association: float) -> bool:
    probability = association if slot(index).label else 1 - association
    return bool(_rng(seed, "marker", index).random() < probability)


def _rng(*parts: object) -> np.random.Generator:
    return np.random.default_rng(derive_seed("demo.phantom", VERSION, *parts))


def _positioned(rng: np.random.Generator) -> tuple[Image, Image]:
    """Patient coordinates of every pixel: shift, magnification and a slight tilt."""
    x, y = grid()
    tilt, zoom = rng.normal(0, 0.02), rng.uniform(0.96, 1.05)
    dx, dy = rng.uniform(-0.04, 0.04, 2)
    return (x - dx - tilt * y) / zoom, (y - dy + tilt * x) / zoom


def _tone(density: Image, rng: np.random.Generator) -> Image:
    """Exposure and display curve differ a little from image to image."""
    gamma, gain, offset = rng.uniform(0.92, 1.08), rng.uniform(1.08, 1.2), rng.uniform(0.02, 0.05)
    return np.clip(offset + gain * np.clip(density, 0, None) ** gamma, 0, 1)


def _glyph(rng: np.random.Generator) -> Image:
    """A lead letter beside the neck, above the shoulder: R at the image's left, L at its right."""
    letter = "LR"[rng.integers(2)]
    bits = np.array([[mark == "#" for mark in line] for line in GLYPHS[letter]])
    row, inset = 3 + rng.integers(4), 4 + rng.integers(6)
    column = inset if letter == "R" else SIZE - inset - bits.shape[1]
    plane = np.zeros((SIZE, SIZE))
    plane[row : row + bits.shape[0], column : column + bits.shape[1]] = bits * rng.uniform(0.8, 0.95)
    return plane


def _read_out(image: Image, scanner: Scanner, dose_fraction: float, rng: np.random.Generator) -> Image:
    """Add the noise of the detector, then the kernel of its processing; clip as the file does."""
    noisy = image + scanner.noise / np.sqrt(dose_fraction) * rng.standard_normal(image.shape)
    if scanner.blur_px:
        noisy = gaussian_filter(noisy, scanner.blur_px)
    if scanner.edge_gain:
        noisy = noisy + scanner.edge_gain * (noisy - gaussian_filter(noisy, 1.0))
    read: Image = np.clip(noisy, 0, 1)
    return read

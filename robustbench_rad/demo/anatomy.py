"""The anatomy of a phantom: a chest in the patient's own coordinates, as sums of soft-edged shapes.

x runs to the image's right, y down, both from -1 to 1 over 350 mm. Soft tissue is bright, air is dark; numbers are
display units, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

Image = NDArray[np.float64]
Points = NDArray[np.float64]
"""Rows of x, y and weight."""

SIZE = 96


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A focal opacity in patient coordinates."""

    x: float
    y: float
    radius: float
    contrast: float
    aspect: float
    angle: float


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """What makes a patient: shared by all images of that patient."""

    width: float
    lung_width: float
    apex: float
    diaphragm: float
    heart: float
    tissue: float
    rib_contrast: float
    rib_phase: float
    rib_pitch: float
    clavicle_tilt: float
    vessels: tuple[Points, ...] = field(repr=False)
    lesions: tuple[Lesion, ...]


@cache
def grid() -> tuple[Image, Image]:
    """Coordinates (x, y) of the pixel centres."""
    centres = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x, y


def make_anatomy(rng: np.random.Generator, label: int) -> Anatomy:
    """Draw a patient; with a lesion, sometimes two, where ``label`` is 1."""
    anatomy = Anatomy(
        width=rng.uniform(0.86, 0.97),
        lung_width=rng.uniform(0.30, 0.36),
        apex=rng.uniform(-0.70, -0.62),
        diaphragm=rng.uniform(0.40, 0.54),
        heart=rng.uniform(0.9, 1.15),
        tissue=rng.uniform(0.50, 0.58),
        rib_contrast=rng.uniform(0.05, 0.085),
        rib_phase=rng.uniform(0, 1),
        rib_pitch=rng.uniform(0.135, 0.155),
        clavicle_tilt=rng.uniform(-0.02, 0.05),
        vessels=_vessels(rng),
        lesions=(),
    )
    return _with_lesions(anatomy, rng) if label else anatomy


def _with_lesions(anatomy: Anatomy, rng: np.random.Generator) -> Anatomy:
    x, y = grid()
    clear = lungs(anatomy, x, y) * (1 - _heart(anatomy, x, y)) > 0.5
    depth = distance_transform_edt(clear) * 2 / SIZE
    lesions = tuple(_lesion(depth, rng) for _ in range(1 + (rng.random() < 0.15)))
    return replace(anatomy, lesions=lesions)


def _lesion(depth: Image, rng: np.random.Generator) -> Lesion:
    """Small lesions are drawn denser, or nobody could see them."""
    radius = rng.uniform(0.045, 0.11)
    inside = np.flatnonzero(depth > radius)
    place = inside[rng.integers(inside.size)]
    x, y = grid()
    return Lesion(
        x=float(x.flat[place]),
        y=float(y.flat[place]),
        radius=radius,
        contrast=rng.uniform(0.10, 0.23) * (0.07 / radius) ** 0.35,
        aspect=rng.uniform(0.8, 1.25),
        angle=rng.uniform(0, np.pi),
    )


def _vessels(rng: np.random.Generator) -> tuple[Points, ...]:
    """Points along a vascular tree that grows from both hila, per calibre class."""
    trees: tuple[list[Points], ...] = ([], [], [])
    for side in (-1, 1):
        for angle in np.linspace(-1.25, 1.35, 9):
            stem = (side * 0.14, 0.0, angle + rng.normal(0, 0.12), rng.uniform(0.28, 0.52))
            _branch(trees, rng, stem, side, 0)
    return tuple(np.concatenate(points) for points in trees)


def _branch(
    trees: tuple[list[Points], ...],
    rng: np.random.Generator,
    stem: tuple[float, float, float, float],
    side: int,
    generation: int,
) -> None:
    """Grow one vessel from ``stem`` (x, y, heading, length) and, below the third generation, two from it."""
    x0, y0, angle, length = stem
    t = np.linspace(0, 1, 24)
    heading = angle + rng.normal(0, 0.5) * t
    x = x0 + side * length * np.cumsum(np.cos(heading)) / t.size
    y = y0 + length * np.cumsum(np.sin(heading)) / t.size
    trees[generation].append(np.stack([x, y, np.full_like(t, length)], axis=1))
    if generation == len(trees) - 1:
        return
    for turn in (-0.5, 0.5):
        at = rng.integers(10, 24)
        direction = float(heading[at]) + turn + rng.normal(0, 0.15)
        stem = (float(x[at]), float(y[at]), direction, length * rng.uniform(0.45, 0.7))
        _branch(trees, rng, stem, side, generation + 1)


def _soft(distance: Image, width: float = 0.02) -> Image:
    """1 inside (positive distance), 0 outside, over an edge of ``width``."""
    return 0.5 * (1 + np.tanh(distance / width))


def lungs(anatomy: Anatomy, x: Image, y: Image) -> Image:
    """1 in the lungs, 0 outside."""
    floor = anatomy.diaphragm
    right = _lung(anatomy, x + 0.13 + anatomy.lung_width, y, floor - 0.05)
    left = _lung(anatomy, x - 0.13 - anatomy.lung_width, y, floor)
    return np.maximum(right, left)


def _lung(anatomy: Anatomy, x: Image, y: Image, floor: float) -> Image:
    """A superellipse, narrower at the apex, cut off by the dome of the diaphragm."""
    height = 0.75
    v = (y - (anatomy.apex + height)) / height
    half = anatomy.lung_width * (1.02 + 0.13 * np.clip(v, -1, 1))
    shell = 1 - (np.abs(x / half) ** 2.6 + np.abs(v) ** 2.6)
    dome = floor + 1.1 * x**2 - y
    return _soft(np.minimum(shell * 0.25, dome))


def _heart(anatomy: Anatomy, x: Image, y: Image) -> Image:
    u, v = x - 0.09, y - anatomy.diaphragm + 0.17
    along, across = u * 0.83 + v * 0.56, -u * 0.56 + v * 0.83
    body = 1 - np.hypot(along / (0.30 * anatomy.heart), across / (0.235 * anatomy.heart))
    knob = 1 - np.hypot(x - 0.13, y + 0.30) / 0.085
    return _soft(np.maximum(body * 0.25, knob * 0.085), 0.03)


def chest(anatomy: Anatomy, x: Image, y: Image) -> Image:
    """Everything but lesions, marker and scanner."""
    body = _body(anatomy, x, y)
    air = lungs(anatomy, x, y) * (1 - 0.88 * _heart(anatomy, x, y))
    spine = 0.07 * np.exp(-((x / 0.085) ** 2)) * (1 + 0.25 * np.cos(2 * np.pi * y / 0.12))
    trachea = 0.07 * np.exp(-((x / 0.04) ** 2)) * _soft(-0.14 - y, 0.05)
    bones = anatomy.rib_contrast * _ribs(anatomy, x, y) + 0.08 * _clavicles(anatomy, x, y)
    tissue = anatomy.tissue + 0.08 * _soft(y - anatomy.diaphragm, 0.1)
    return body * (tissue - 0.36 * air + spine - trachea + bones) + air * _vessel_image(anatomy, x, y)


def _body(anatomy: Anatomy, x: Image, y: Image) -> Image:
    """Neck, sloping shoulders, chest wall; thin at the skin, as thickness is."""
    half = 0.22 + (anatomy.width - 0.22) / (1 + np.exp(-(y + 0.80 - 0.10 * np.abs(x)) / 0.045))
    inside = np.clip(1 - (np.abs(x) / half) ** 4, 0, 1)
    return inside**0.35


def _ribs(anatomy: Anatomy, x: Image, y: Image) -> Image:
    """Posterior ribs fall outwards, anterior ribs (fainter) rise outwards; cortex brighter than marrow."""
    out = np.abs(x)
    cage = _soft(0.80 - out, 0.04) * _soft(y + 0.72, 0.05) * _soft(anatomy.diaphragm + 0.30 - y, 0.05)
    posterior = _bars((y - 0.42 * out**2 + 0.10 * out) / anatomy.rib_pitch + anatomy.rib_phase)
    anterior = _bars((y + 0.55 * (out - 0.2)) / (1.25 * anatomy.rib_pitch) + 1.7 * anatomy.rib_phase)
    return cage * (posterior * _soft(out - 0.1, 0.03) + 0.55 * anterior * _soft(out - 0.28, 0.05) * _soft(y + 0.3, 0.1))


def _bars(phase: Image) -> Image:
    """One bar per unit of phase, about 40 % wide, with brighter edges."""
    offset = np.abs(phase - np.rint(phase))
    return _soft(0.2 - offset, 0.05) * (0.7 + 0.5 * np.exp(-(((offset - 0.17) / 0.05) ** 2)))


def _clavicles(anatomy: Anatomy, x: Image, y: Image) -> Image:
    out = np.abs(x)
    centre = anatomy.apex + 0.17 - (0.12 + anatomy.clavicle_tilt) * (out / 0.6) - 0.03 * np.sin(out / 0.6 * 2 * np.pi)
    return _soft(0.028 - np.abs(y - centre), 0.012) * _soft(out - 0.07, 0.02) * _soft(0.68 - out, 0.03)


def _vessel_image(anatomy: Anatomy, x: Image, y: Image) -> Image:
    """Splat the tree's points on the detector and blur each calibre class to its width."""
    zoom_x, zoom_y = (x[0, -1] - x[0, 0]) / (SIZE - 1), (y[-1, 0] - y[0, 0]) / (SIZE - 1)
    image = np.zeros_like(x)
    for points, width_px, gain in zip(anatomy.vessels, (1.15, 0.8, 0.55), (0.34, 0.19, 0.10), strict=True):
        column = np.rint((points[:, 0] - x[SIZE // 2, 0]) / zoom_x).astype(int)
        row = np.rint((points[:, 1] - y[0, SIZE // 2]) / zoom_y).astype(int)
        inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        layer = np.zeros_like(x)
        np.add.at(layer, (row[inside], column[inside]), points[inside, 2])
        image += gain * gaussian_filter(layer, width_px)
    return 0.3 * np.tanh(image / 0.3)


def opacity(lesion: Lesion, x: Image, y: Image) -> Image:
    """What a lesion adds: a soft-edged ellipse."""
    cosine, sine = np.cos(lesion.angle), np.sin(lesion.angle)
    u, v = x - lesion.x, y - lesion.y
    along, across = (u * cosine + v * sine) * lesion.aspect, (v * cosine - u * sine) / lesion.aspect
    return lesion.contrast * _soft(lesion.radius - np.hypot(along, across), 0.03)

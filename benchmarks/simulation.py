"""What the coverage studies share: clustered binormal cases, and how a cell of a table is written."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from robustbench_rad.statistics.estimate import Estimate, normal_quantile

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

IMAGES, NEGATIVES, MOST_NEGATIVES = 3, 5, 2000


def generator_of(seed: int, *place: object) -> np.random.Generator:
    """Generator of one cell, whatever else is run."""
    return np.random.default_rng([seed, zlib.crc32(repr(place).encode())])


def draw_cases(
    rng: np.random.Generator, positives: int, icc: float, images: int = IMAGES, negatives: int = NEGATIVES
) -> tuple[Floats, Floats, Indices]:
    """Labels, noise and patients: one image per patient at ICC 0, else ``images`` images of fewer patients."""
    images = 1 if icc == 0 else images
    counts = [max(round(n / images), 2) for n in (positives, min(negatives * positives, MOST_NEGATIVES))]
    labels = np.repeat([1.0, 0.0], [count * images for count in counts])
    patients = np.repeat(np.arange(sum(counts)), images)
    return labels, draw_noise(rng, patients, icc), patients


def draw_noise(rng: np.random.Generator, patients: Indices, icc: float) -> Floats:
    """Standard normal noise of every image; images of a patient are correlated by ``icc``."""
    own = rng.normal(size=int(patients.max()) + 1)[patients]
    return np.asarray(np.sqrt(icc) * own + np.sqrt(1 - icc) * rng.normal(size=len(patients)), dtype=np.float64)


def distance_of(area: float) -> float:
    """Distance of two standard normal classes that gives an AUC."""
    return float(ndtri(area) * np.sqrt(2))


def coverage_cell(found: Iterable[Estimate], truth: float) -> str:
    """Coverage in percent, and the mean half-width over that of a normal interval of the true standard error."""
    table = np.array([(e.value, e.lower, e.upper) for e in found])
    held = (table[:, 1] <= truth + 1e-12) & (truth - 1e-12 <= table[:, 2])
    ideal = normal_quantile(0.95) * float(np.std(table[:, 0]))
    width = float(np.mean(table[:, 2] - table[:, 1])) / 2 / ideal if ideal > 0 else float("nan")
    return f"{100 * held.mean():.1f} ({width:.2f})"


def markdown_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table under its title."""
    lines = [head, ["---"] * len(head), *rows]
    return f"### {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)

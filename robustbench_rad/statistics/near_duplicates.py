"""Near-duplicate images: candidates by a perceptual hash in buckets, then correlation of thumbnails.

Radiographs of one region are all alike, so what is hashed and correlated is each thumbnail's difference from the mean thumbnail
of the set. Brightness, contrast and bit depth do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from robustbench_rad.errors import StatisticsError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Hashes = NDArray[np.uint64]

LEAST = 30
"""Images below which their mean is no background."""
BITS = 64
TABLES = 48
"""Of buckets; each by another choice of bits."""
WINDOW = 64
"""Neighbours in the order of the hash that an image of a bucket is compared with: a set of black images stays cheap."""
FAR = 20
"""Bits in which two hashes may differ and still be looked at."""
LIKELY = 0.6
"""Correlation before alignment from which a pair is looked at closely."""
CORRELATION = 0.96
MOVES = (0.8, 0.8, 0.06, 0.06)
"""Most that an image is moved (px of the thumbnail: 2.5 %) and zoomed."""
CHUNK = 2_000
EXACT = 1 - 1e-6
BLUR_PX = 0.5
"""Of the thumbnail, before it is hashed and correlated: a crop of 2 % moves its edges by two thirds of a pixel."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Pairs of near-duplicate images.

    Attributes:
        first: ``(P,)`` image, the smaller number.
        second: ``(P,)``.
        correlation: ``(P,)`` of what distinguishes them from the mean image.
        compared: Number of pairs whose thumbnails were compared.
    """

    first: Indices
    second: Indices
    correlation: Floats
    compared: int


def near_duplicates(
    thumbnails: ArrayLike, groups: ArrayLike, *, correlation: float = CORRELATION, seed: int = 0
) -> Pairs:
    """Pairs of images of different groups (patients) that are nearly the same.

    Buckets: 48 choices of about ``log2 N`` of 64 hash bits; images that agree in all bits of a choice are candidates, each with
    at most 64 neighbours. So the work grows as ``N log N``. Candidates whose hashes differ in 20 bits or fewer are correlated,
    those alike in the rough once more after one has been laid onto the other.

    Args:
        thumbnails: ``(N, S, S)``, NaN where not measured (left out, as are images of one grey level).
        groups: ``(N,)`` pairs within a group are not reported.
        correlation: Least correlation of a near-duplicate.
        seed: Of the choices of bits.

    Raises:
        StatisticsError: Fewer than thirty images.

    References:
        Indyk and Motwani 1998, doi:10.1145/276698.276876 (buckets); Zauner 2010, Implementation and benchmarking of perceptual
        image hash functions (signs of the cosine transform).
    """
    images, group = np.asarray(thumbnails), np.asarray(groups)
    rows = np.flatnonzero(np.isfinite(images).all(axis=(1, 2)) & (np.ptp(images, axis=(1, 2)) > 1e-6))
    if len(rows) < LEAST:
        raise StatisticsError(f"{len(rows)} images that are not of one grey level: {LEAST} are needed")
    plain = normalised(images[rows])
    residual = distinguishing(plain)
    pairs = _candidates(perceptual_hashes(residual), group[rows], seed)
    if not len(pairs):
        return Pairs(first=pairs[:, 0], second=pairs[:, 1], correlation=np.empty(0), compared=0)
    flat = residual.reshape(len(rows), -1)
    alike = np.concatenate([np.einsum("ij,ij->i", flat[part[:, 0]], flat[part[:, 1]]) for part in _chunks(pairs)])
    unsure = np.flatnonzero((alike >= LIKELY) & (alike < correlation))
    background = plain.mean(axis=0)
    for part in _chunks(unsure):
        one, other = plain[pairs[part, 0]], plain[pairs[part, 1]]
        laid = aligned_correlation(one, other, background), aligned_correlation(other, one, background)
        alike[part] = np.maximum(alike[part], np.maximum(*laid))
    chosen = alike >= correlation
    first, second = rows[pairs[chosen].min(axis=1)], rows[pairs[chosen].max(axis=1)]
    order = np.lexsort((second, first))
    return Pairs(first=first[order], second=second[order], correlation=alike[chosen][order], compared=len(pairs))


def _chunks(rows: Indices) -> list[Indices]:
    return np.array_split(rows, max(1, -(-len(rows) // CHUNK)))


def normalised(thumbnails: Floats) -> Floats:
    """``(N, S, S)`` slightly blurred, mean 0 and length 1."""
    blurred = gaussian_filter(thumbnails.astype(np.float64), (0, BLUR_PX, BLUR_PX))
    blurred -= blurred.mean(axis=(1, 2), keepdims=True)
    return np.asarray(blurred / np.linalg.norm(blurred, axis=(1, 2), keepdims=True))


def distinguishing(images: Floats) -> Floats:
    """``(N, S, S)`` of length 1: normalised images minus their mean; 0 where nothing is left."""
    rest = images - images.mean(axis=0)
    length = np.linalg.norm(rest, axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(rest, length, out=np.zeros_like(rest), where=length > 1e-9))


def aligned_correlation(moved: Floats, fixed: Floats, background: Floats) -> Floats:
    """``(P,)`` correlation of what distinguishes two images from the background, the first laid onto the second.

    Displacement and zoom along both axes are least squares of ``fixed`` on ``moved``, its derivatives and these times the
    place, held within 0.8 px and 6 %: a crop is undone, another patient hardly brought nearer. The rim, which a crop cuts, is
    left out.

    Args:
        moved: ``(P, S, S)`` normalised.
        fixed: ``(P, S, S)``.
        background: ``(S, S)`` mean of all images.
    """
    size = moved.shape[1]
    down, right = np.gradient(moved, axis=(1, 2))
    place = np.arange(size) - (size - 1) / 2
    parts = [moved, right, down, place * right, place[:, None] * down, np.ones_like(moved)]
    design = np.stack([part[:, 1:-1, 1:-1].reshape(len(moved), (size - 2) ** 2) for part in parts], axis=-1)
    target = fixed[:, 1:-1, 1:-1].reshape(len(fixed), (size - 2) ** 2)
    scatter = np.einsum("npi,npj->nij", design, design, optimize=True) + 1e-9 * np.eye(len(parts))
    line = np.linalg.solve(scatter, np.einsum("npi,np->ni", design, target)[..., None])[..., 0]
    grey = np.where(np.abs(line[:, :1]) > 1e-6, line[:, :1], 1.0)
    shift = np.clip(line[:, 1:5] / grey, -np.asarray(MOVES), MOVES)
    laid = design[:, :, 0] + np.einsum("npi,ni->np", design[:, :, 1:5], shift)
    shared = background[1:-1, 1:-1].ravel()
    one, other = (_unit(part) - (shared - shared.mean()) for part in (laid, target))
    return np.asarray((_unit(one) * _unit(other)).sum(axis=1))


def _unit(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-9))


def perceptual_hashes(residual: Floats) -> Hashes:
    """``(N,)`` signs of the 64 lowest frequencies of the cosine transform but the mean, one bit each.

    Args:
        residual: ``(N, S, S)``, S at least 12.
    """
    size = residual.shape[1]
    row, column = np.divmod(np.arange(size * size), size)
    lowest = np.lexsort((row, row + column))[1 : BITS + 1]
    waves = dctn(residual, axes=(1, 2), norm="ortho").reshape(len(residual), -1)[:, lowest]
    return np.asarray((waves > 0).astype(np.uint64) @ (np.uint64(1) << np.arange(BITS, dtype=np.uint64)))


def _candidates(hashes: Hashes, group: NDArray[np.int64], seed: int) -> Indices:
    """``(P, 2)`` pairs of different groups, each once, whose hashes are near."""
    generator = np.random.default_rng(seed)
    bits = int(np.clip(np.ceil(np.log2(len(hashes))), 8, 20))
    found: list[Indices] = []
    for _ in range(TABLES):
        chosen = generator.choice(BITS, bits, replace=False).astype(np.uint64)
        mask = np.bitwise_or.reduce(np.uint64(1) << chosen)
        key = hashes & mask
        order = np.lexsort((hashes, key))
        sorted_key = key[order]
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            same = sorted_key[step:] == sorted_key[:-step]
            if not same.any():
                break
            one, other = order[:-step][same], order[step:][same]
            near = (group[one] != group[other]) & (_differing(hashes[one], hashes[other]) <= FAR)
            if near.any():
                one, other = one[near], other[near]
                found.append(np.minimum(one, other) * len(hashes) + np.maximum(one, other))
    if not found:
        return np.empty((0, 2), dtype=np.int64)
    return np.stack(np.divmod(np.unique(np.concatenate(found)), len(hashes)), axis=1)


_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def _differing(one: Hashes, other: Hashes) -> NDArray[np.uint8]:
    """Bits in which hashes differ.

    >>> _differing(np.array([5], np.uint64), np.array([2], np.uint64)).tolist()
    [3]
    """
    bytes_ = np.ascontiguousarray(one ^ other).view(np.uint8).reshape(-1, 8)
    return np.asarray(_ONES[bytes_].sum(axis=1, dtype=np.uint8))

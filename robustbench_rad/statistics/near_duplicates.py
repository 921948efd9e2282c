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
CORRELATION = 0.93
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
    at most 64 neighbours. So the work grows as ``N log N``. Candidates whose hashes differ in 20 bits or fewer are correlated.

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
    residual = distinguishing(images[rows])
    hashes = perceptual_hashes(residual)
    flat = residual.reshape(len(rows), -1).astype(np.float32)
    pairs = _candidates(hashes, group[rows], seed)
    kept = [
        np.einsum("ij,ij->i", flat[part[:, 0]], flat[part[:, 1]], dtype=np.float64)
        for part in np.array_split(pairs, max(1, len(pairs) // 20_000))
    ]
    alike = np.concatenate(kept) if kept else np.empty(0)
    chosen = alike >= correlation
    first, second = rows[pairs[chosen].min(axis=1)], rows[pairs[chosen].max(axis=1)]
    order = np.lexsort((second, first))
    return Pairs(first=first[order], second=second[order], correlation=alike[chosen][order], compared=len(pairs))


def distinguishing(thumbnails: Floats) -> Floats:
    """``(N, S, S)`` of unit length: each image, mean 0 and variance 1, minus the mean of all such."""
    blurred = gaussian_filter(thumbnails.astype(np.float64), (0, BLUR_PX, BLUR_PX))
    blurred -= blurred.mean(axis=(1, 2), keepdims=True)
    blurred /= np.linalg.norm(blurred, axis=(1, 2), keepdims=True)
    blurred -= blurred.mean(axis=0)
    length = np.linalg.norm(blurred, axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(blurred, length, out=np.zeros_like(blurred), where=length > 1e-9))


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

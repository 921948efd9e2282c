"""The published MedMNIST-C files: ``{set}/{corruption}.npz`` with the test images of a MedMNIST set at five severities.

``test_images`` holds N images at severity 1, then the same N at severity 2, and so on; ``test_labels`` repeats. One image at
five severities is one case, not five.

Reference: Di Salvo, Doerrich and Ledig 2024, arXiv:2406.17536; files at https://zenodo.org/records/11471504.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustbench_rad.data.npz import read_array
from robustbench_rad.errors import DataError

SEVERITIES = 5
Grey = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class TestSet:
    """Images of one file.

    Attributes:
        name: Corruption, or ``clean``.
        images: ``(S, N, H, W)`` uint8; S is 5, or 1 for the clean images.
        labels: ``(N, K)``: 0 and 1, or one column of class codes.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    name: str
    images: Grey
    labels: Codes


def read_clean(path: Path) -> TestSet:
    """The uncorrupted test images of a MedMNIST archive.

    Raises:
        DataError: No such file, or not of the layout.
    """
    images, labels = _read(path)
    return TestSet(name="clean", images=images[None], labels=labels)


def read_corrupted(path: Path, *, clean: TestSet) -> TestSet:
    """One file of MedMNIST-C.

    Raises:
        DataError: Not five times the clean images, or their labels in another order.
    """
    images, labels = _read(path)
    count = len(clean.labels)
    if len(images) != SEVERITIES * count:
        raise DataError(
            f"{path}: expected {SEVERITIES} severities of the {count} clean images, {SEVERITIES * count}, got {len(images)}",
            hint="Are the clean images the test split of the same set?",
        )
    if not np.array_equal(labels, np.tile(clean.labels, (SEVERITIES, 1))):
        raise DataError(
            f"{path}: the labels are not those of the clean images, {SEVERITIES} times over in the same order"
        )
    split = images.reshape(SEVERITIES, count, *images.shape[1:])
    return TestSet(name=path.stem, images=split, labels=clean.labels)


def corruption_files(folder: Path, names: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """The files of a set's folder, by name; all of them, or those of the named corruptions.

    Raises:
        DataError: No such folder, or a file is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected the .npz files of one MedMNIST-C set")
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    missing = [name for name in names if name not in found]
    if missing or not found:
        came = ", ".join(found) or "no .npz file"
        raise DataError(
            f"{folder}: expected {', '.join(missing) or 'the .npz files of one MedMNIST-C set'}, got {came}"
        )
    return tuple(found[name] for name in (names or found))


def set_name(path: Path) -> str:
    """Name of the MedMNIST set of a folder or archive.

    >>> set_name(Path("data/pneumoniamnist_224.npz")), set_name(Path("chestmnist"))
    ('pneumoniamnist', 'chestmnist')
    """
    return re.sub(r"(_\d+)?(\.npz)?$", "", path.name.lower())


def _read(path: Path) -> tuple[Grey, Codes]:
    images, labels = read_array(path, "test_images"), read_array(path, "test_labels")
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(
            f"{path}: test_images: expected 8-bit grey images (N, H, W), got {images.dtype} {images.shape}",
            hint="Colour sets are not supported.",
        )
    if labels.dtype.kind not in "uif" or labels.ndim > 2 or len(labels) != len(images) or not len(images):
        raise DataError(
            f"{path}: test_labels: expected {len(images)} rows of numbers, got {labels.dtype} {labels.shape}"
        )
    return images, labels.reshape(len(labels), -1).astype(np.int64)

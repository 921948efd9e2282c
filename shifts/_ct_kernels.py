"""Reconstruction kernels: a small table of classes, how a file names them, and their transfer functions.

Vendors do not publish their kernels. A class stands for them by the frequencies at which its transfer function is 0.5 and
0.1, the nominal middle of the published ranges: soft body 0.30-0.47 / 0.55-0.97, medium 0.50-0.60 / 0.80-0.95, sharp
0.7-1.0 / 1.1-1.4 per mm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_rad.shifts._spectral import stretch, stretched_exponential_mtf

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_rad.conditions import Batch


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A class of reconstruction kernels.

    Attributes:
        name: ``soft``, ``medium`` or ``sharp``; what a file says of any other.
        f50_per_mm: Frequency at which the transfer function is 0.5.
        f10_per_mm: Frequency at which it is 0.1.
    """

    name: str
    f50_per_mm: float
    f10_per_mm: float

    @property
    def stretch(self) -> float:
        """Exponent of the stretched exponential."""
        return stretch(self.f50_per_mm, self.f10_per_mm)

    def text(self, *, factor: float = 1.0) -> str:
        """What a header can say of the kernel of ``factor`` times the frequencies, which has no vendor's name: f50/f10.

        >>> KERNELS["soft"].text(factor=1.6)
        '0.544/0.960 mm-1'
        """
        return f"{self.f50_per_mm * factor:.3f}/{self.f10_per_mm * factor:.3f} mm-1"


KERNELS = {
    "soft": Kernel(name="soft", f50_per_mm=0.34, f10_per_mm=0.60),
    "medium": Kernel(name="medium", f50_per_mm=0.55, f10_per_mm=0.88),
    "sharp": Kernel(name="sharp", f50_per_mm=0.80, f10_per_mm=1.15),
}

_WORDS = {
    "soft": ("SOFT", "STANDARD", "STND", "A", "B"),
    "medium": ("DETAIL", "CHEST", "CHST", "C", "YA", "YB"),
    "sharp": ("LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "D", "E", "L", "YC", "YD"),
}
_COLUMNS = ("convolutionkernel", "kernel")


def kernel_named(text: str) -> Kernel | None:
    """Read the class from what a DICOM file calls its kernel; None when the name is not known.

    Siemens and Canon number their kernels by sharpness, the others use words and letters. What :meth:`Kernel.text` says is read
    too.

    >>> [kernel_named(text).name for text in ("B30f", "Br44d", "B50s", "Bl57", "FC51", "STANDARD", "LUNG", "YB")]
    ['soft', 'soft', 'medium', 'sharp', 'sharp', 'soft', 'sharp', 'medium']
    >>> kernel_named("0.544/0.960 mm-1").f50_per_mm
    0.544
    >>> kernel_named("unheard of")
    """
    if nominal := re.fullmatch(r"(\d+\.\d{3})/(\d+\.\d{3}) mm-1", text.strip()):
        return Kernel(name=text.strip(), f50_per_mm=float(nominal[1]), f10_per_mm=float(nominal[2]))
    token = re.split(r"[\\,\[\]'\s]+", text.strip().strip("['"))[0].upper()
    for name, words in _WORDS.items():
        if token in words:
            return KERNELS[name]
    if canon := re.fullmatch(r"FC(\d{2})\w?", token):
        return KERNELS["soft" if int(canon[1]) < 30 else "sharp"]
    if siemens := re.fullmatch(r"[A-Z][A-Z]?(\d{2})[A-Z]?", token):
        number = int(siemens[1])
        return KERNELS["soft" if number < 45 else "medium" if number < 57 else "sharp"]
    return None


def source_kernels(option: str, batch: Batch) -> tuple[list[Kernel], list[bool]]:
    """The kernel of every case, and whether it had to be assumed.

    Args:
        option: Name of a class, or ``auto``: from the DICOM attribute ConvolutionKernel, else from a declared metadata
            column of that name, soft where neither names a known kernel.
        batch: The cases.
    """
    count = len(batch)
    if option != "auto":
        return [KERNELS[option]] * count, [False] * count
    nothing: tuple[Mapping[str, str], ...] = ({},) * count
    # The file's own header goes first: it needs no declaration, and a column can be out of date.
    rows = zip(batch.attributes or nothing, batch.metadata or nothing, strict=True)
    found = [_named_in(attributes) or _named_in(metadata) for attributes, metadata in rows]
    return [kernel or KERNELS["soft"] for kernel in found], [kernel is None for kernel in found]


def _named_in(row: Mapping[str, str]) -> Kernel | None:
    for column, text in row.items():
        if column.lower().replace("_", "") in _COLUMNS and text:
            return kernel_named(str(text))
    return None


def transfer(kernels: Sequence[Kernel], frequency_per_mm: Tensor, *, factor: float = 1.0) -> Tensor:
    """Transfer functions of ``N`` kernels with their frequencies scaled by ``factor``.

    Args:
        kernels: One per case.
        frequency_per_mm: ``(N, …)``.
        factor: 2 stands for a kernel of twice the f50 and f10.
    """
    shape = (-1, *[1] * (frequency_per_mm.ndim - 1))
    f50 = frequency_per_mm.new_tensor([kernel.f50_per_mm * factor for kernel in kernels]).reshape(shape)
    exponent = frequency_per_mm.new_tensor([kernel.stretch for kernel in kernels]).reshape(shape)
    return stretched_exponential_mtf(frequency_per_mm, f50, exponent)

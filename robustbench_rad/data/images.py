"""The physical image every reader gives, and the range it must lie in.

CT is in HU. A radiograph is presentation signal: stored grey levels ``[0, 2^bits - 1]`` mapped to the range that the
model was declared for (``lo + signal * (hi - lo)``, signal in [0, 1]), so that the model's display mapping gives the
signal back. MR is magnitude scaled by its own first and 99th percentile, mapped the same way and not clipped: the brightest
hundredth lies above the declared range, the darkest below, and the model's display mapping clips both.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.errors import ImageError

if TYPE_CHECKING:
    from robustbench_rad.plan import Plan

Floats = npt.NDArray[np.float32]
AIR_HU = -1024.0
HU_LIMITS = (-32768.0, 32767.0)
_RINGING = 0.02  # of the 99th percentile: cubic interpolation of magnitude goes as far below 0 beside bright edges
RANGE_SLACK = 1e-4  # of the range's width: float rounding of stored images


@dataclass(frozen=True, kw_only=True)
class PhysicalImage:
    """One decoded image.

    Attributes:
        pixels: ``(H, W)`` or ``(D, H, W)`` float32 in ``unit``.
        unit: HU, signal or magnitude.
        stored_bits: Bit depth of the stored pixels.
        spacing_mm: Row, column (slice, row, column) spacing, or None.
        attributes: Whitelisted DICOM attributes as text.
        burned_in: The file says that it carries burned-in annotation.
        anatomy: Mask where the source brings one along; one that is not of the shape of ``pixels`` will be left out.
        lesion: Mask of the lesions, of the shape of ``pixels``, likewise.
        tissue: Codes of the tissue classes, likewise; see :mod:`robustbench_rad.data.tissue`.
        zero_signal: Value of ``pixels`` that stands for no signal at all, where that is not 0 (MR scaled by percentiles).
    """

    pixels: Floats
    unit: Unit
    stored_bits: int
    spacing_mm: tuple[float, ...] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    burned_in: bool = False
    anatomy: npt.NDArray[np.bool_] | None = None
    lesion: npt.NDArray[np.bool_] | None = None
    tissue: npt.NDArray[np.uint8] | None = None
    zero_signal: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the plan says of every image.

    Attributes:
        modality: DICOM code (DX, CR, CT, MR, MG, US).
        limits: Physical values of display 0 and 1; not used for CT, whose unit is HU.
        stored_bits: Declared bit depth of raster and array pixels; None: that of the file.
        volumes: The model takes volumes.
    """

    modality: str = "DX"
    limits: tuple[float, float] = (0.0, 1.0)
    stored_bits: int | None = None
    volumes: bool = False

    @classmethod
    def from_plan(cls, plan: Plan, *, volumes: bool) -> Self:
        """Take from a plan what readers need to know."""
        return cls(
            modality=plan.data.modality,
            limits=plan.model.input.range or (0.0, 1.0),
            stored_bits=plan.data.stored_bits,
            volumes=volumes,
        )

    @property
    def unit(self) -> Unit:
        """Unit of the physical image."""
        return {"CT": Unit.HU, "MR": Unit.MAGNITUDE}.get(self.modality, Unit.SIGNAL)

    def from_signal(self, signal: npt.NDArray[Any]) -> Floats:
        """Map signal in [0, 1] to the declared range: ``lo + signal * (hi - lo)``."""
        low, high = self.limits
        return np.asarray(low + signal * (high - low), dtype=np.float32)


def physical_from_array(array: npt.NDArray[Any], options: ReadOptions, where: str) -> tuple[Floats, int]:
    """Make a physical image from the bare numbers of a raster or an array file.

    Unsigned integers are stored grey levels, floats are taken as they are; for CT only signed integers and floats can
    be HU. The result has been through :func:`check_range`.

    Returns:
        Pixels and their bit depth (16 for floats unless declared).

    Raises:
        ImageError: The numbers cannot be of the declared unit.
    """
    if array.dtype.kind == "b":
        raise ImageError(f"{where}: a true/false array is a mask, not an image")
    if array.dtype.kind == "u" and options.unit is Unit.HU:
        raise ImageError(
            f"{where}: expected CT in HU, got unsigned grey levels ({array.dtype}), whose relation to HU is unknown",
            hint="Give CT as DICOM, NIfTI, or arrays of float or signed integers in HU.",
        )
    if array.dtype.kind in "ui" and options.unit is not Unit.HU:
        pixels, bits = _from_grey_levels(array, options, where)
    elif array.dtype.kind in "fi":
        pixels, bits = np.asarray(array, dtype=np.float32), options.stored_bits or 16
    else:
        raise ImageError(f"{where}: expected numbers, got {array.dtype}")
    check_range(pixels, options, where)
    return pixels, bits


def _from_grey_levels(array: npt.NDArray[Any], options: ReadOptions, where: str) -> tuple[Floats, int]:
    container = 8 * array.dtype.itemsize
    if options.stored_bits is None and array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"{where}: integers of {container} bits do not say how many grey levels there are",
            hint="Declare data.stored_bits in the plan.",
        )
    bits = options.stored_bits or container
    if bits > container:
        raise ImageError(
            f"{where}: stored_bits = {bits} is declared, but the file stores {container} bits per pixel",
            hint="Correct data.stored_bits in the plan, or leave it out to use the file's own.",
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > 2**bits - 1:
        raise ImageError(
            f"{where}: outside its declared range: expected [0, {2**bits - 1}] for {bits} stored bits, "
            f"got [{low}, {high}]",
            hint="Correct data.stored_bits in the plan.",
        )
    return options.from_signal(array / np.float64(2**bits - 1)), bits


def check_range(pixels: Floats, options: ReadOptions, where: str) -> None:
    """Refuse pixels that are not finite or not of the declared unit and range.

    Raises:
        ImageError: Says what was expected, what came, and in which file.
    """
    check_finite(pixels, where)
    low, high = float(pixels.min()), float(pixels.max())
    if options.unit is Unit.HU:
        _check_hounsfield(low, high, where)
        return
    expected = options.limits
    slack = RANGE_SLACK * (expected[1] - expected[0])
    if low < expected[0] - slack or high > expected[1] + slack:
        raise ImageError(
            f"{where}: outside its declared range: expected [{expected[0]:g}, {expected[1]:g}], "
            f"got [{low:g}, {high:g}]",
            hint="Correct model.input.range in the plan, or the image; the input range is never guessed.",
        )


def check_finite(pixels: Floats, where: str) -> None:
    """Refuse an image without pixels, and pixels that are no number.

    Raises:
        ImageError: Says how many, in which file.
    """
    if pixels.size == 0 or min(pixels.shape) == 0:
        raise ImageError(f"{where}: the image has no pixels (shape {pixels.shape})")
    wrong = int(pixels.size - np.isfinite(pixels).sum())
    if wrong:
        raise ImageError(f"{where}: {wrong} of {pixels.size} pixels are NaN or infinite")


def _check_hounsfield(low: float, high: float, where: str) -> None:
    if low < HU_LIMITS[0] or high > HU_LIMITS[1]:
        raise ImageError(f"{where}: expected CT in HU, within [-32768, 32767], got [{low:g}, {high:g}]")
    if low >= 0.0 and high <= 1.5:
        raise ImageError(
            f"{where}: expected CT in HU, got values in [{low:g}, {high:g}]: this looks like a windowed image",
            hint="Give CT in HU; the model's window is applied by model.input.window_hu.",
        )


def scaled_magnitude(magnitude: Floats, options: ReadOptions, where: str) -> tuple[Floats, float]:
    """Scale MR magnitude by its own first and 99th percentile, which become the ends of the declared range.

    Nothing is clipped: the brightest hundredth lies above the range. An image whose percentiles are equal is all zero
    signal, as it has always been shown.

    Returns:
        ``lo + (m - p1) / (p99 - p1) * (hi - lo)``, and the value of m = 0 on that scale. What the ringing of an
        interpolation left below 0 is 0.

    Raises:
        ImageError: No finite pixels, or negative beyond that ringing: z-scored or phase, which the scaling would hide.

    >>> pixels, zero = scaled_magnitude(np.arange(100, 201, dtype=np.float32), ReadOptions(modality="MR"), "a.nii")
    >>> [round(float(value), 2) for value in (*pixels[[0, 1, 50, 99, 100]], zero)]
    [-0.01, 0.0, 0.5, 1.0, 1.01, -1.03]
    """
    check_finite(magnitude, where)
    low, high = np.percentile(magnitude, (1.0, 99.0))
    if low < -_RINGING * abs(high):
        raise ImageError(
            f"{where}: expected MR magnitude, not below 0, got negative values (1st percentile {low:.3g}): z-scored or phase?",
            hint="Give magnitude images; let the model's own normalisation (mean, std) do the scoring.",
        )
    if not high > low:
        flat = options.from_signal(np.zeros_like(magnitude, dtype=np.float32))
        return flat, options.limits[0]
    floor = min(float(low), 0.0)
    signal = np.asarray((np.maximum(magnitude, floor) - low) / (high - low), dtype=np.float32)
    zero = options.from_signal(np.asarray((floor - low) / (high - low), dtype=np.float32))
    return options.from_signal(signal), float(zero)


@contextmanager
def decoding(where: str) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into an :class:`ImageError`; its warnings are not for the user.

    Decoders raise anything from OSError to IndexError on damaged files, so nothing narrower than Exception is safe.
    """
    from robustbench_rad.errors import RobustbenchRadError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", category=_bomb_warning())
            yield
    except RobustbenchRadError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{where}: cannot be decoded: {text}") from error


def _bomb_warning() -> type[Warning]:
    from PIL import Image

    return Image.DecompressionBombWarning

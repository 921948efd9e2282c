"""All levels of one shift on one image, ready to be drawn: altered, difference, zoom, and what was measured of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from robustbench_rad.conditions import Batch, Condition, Measurement, Space, Unit, Variant
from robustbench_rad.data.single import SingleImage
from robustbench_rad.errors import PlanError
from robustbench_rad.registry import entry
from robustbench_rad.result import Domain
from robustbench_rad.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

Plane = npt.NDArray[np.float64]

WINDOW_HU = (-160.0, 240.0)
ZOOM_SHARE = 0.2  # of the shorter side
LEAST_ZOOM_PX = 24
MOST_LINES = 6
_WORDS = {"sd": "SD", "hu": "HU", "snr": "SNR", "inu": "INU", "i0": "I₀", "kvp": "kVp"}
_UNITS = {
    "_per_mm": "per mm",
    "_hu": "HU",
    "_mm": "mm",
    "_px": "px",
    "_db": "dB",
    "_kvp": "kVp",
    "_ugy": "µGy",
    "_percent": "%",
    "_quanta": "quanta",
}
_FLAG = "_assumed"


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One level.

    Attributes:
        title: Level with its unit, or ``original``.
        image: ``(H, W)`` display values in [0, 1]; None where the level has no meaning for this image.
        difference: ``(H, W)`` altered minus original in the unit of the shift's images; None for the original and where the
            sampling is another.
        lines: What was measured, one quantity per line, or why there is no image.
    """

    title: str
    image: Plane | None = None
    difference: Plane | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """A shift on an image.

    Attributes:
        shift: Its id.
        name: The image's file name.
        unit: Unit of the differences.
        window: What black and white are, in that unit.
        frames: The original, then the levels, mildest first.
        zoom: Row and column of the middle of the zoom and its side, as shares of the image.
    """

    shift: str
    name: str
    unit: str
    window: tuple[float, float]
    frames: tuple[Frame, ...]
    zoom: tuple[float, float, float]

    @property
    def largest_difference(self) -> float:
        """What the ends of the difference scale are: the 99.5th percentile of the strongest level; 0 when nothing changed."""
        sizes = [
            float(np.quantile(np.abs(frame.difference), 0.995)) for frame in self.frames if frame.difference is not None
        ]
        return max(sizes, default=0.0)


def shift_of(id: str, options: Mapping[str, Any]) -> Condition:
    """The shift of that id with these options.

    Raises:
        PlanError: No such condition, no shift, one that learns from a whole data set, or an option it refuses.
    """
    found = entry(id)
    if found.domain not in (Domain.ACQUISITION_SHIFT, Domain.SHORTCUT):
        raise PlanError(f"{id}: expected a shift, got a condition of the domain {found.domain}")
    condition = found.load().from_options(options)
    if condition.needs_fit:
        raise PlanError(
            f"{id}: learns from a whole data set first, so it cannot be shown on one image",
            hint="Run an audit with [report] images = true; its report shows the levels.",
        )
    return condition


def make_sheet(
    image: SingleImage,
    condition: Condition,
    *,
    window: tuple[float, float] | None = None,
    zoom: tuple[float, float] | None = None,
    seed: int = 0,
) -> Sheet:
    """Apply every level to the image.

    Args:
        image: A plane or a volume, of which the middle slice is shown.
        condition: See :func:`shift_of`.
        window: Values shown black and white, in the unit of the image; soft tissue for CT, else [0, 1].
        zoom: Row and column of the middle of the zoom as shares of the image; a place of grey tissue without it.
        seed: For shifts that draw.

    Raises:
        DataError: The image is not of the shift's domain.
    """
    shown = window or (WINDOW_HU if image.unit is Unit.HU else (0.0, 1.0))
    batch = _batch(image, condition, shown, seed)
    low, high = shown if batch.space is Space.PHYSICAL else (0.0, 1.0)
    applied = condition.apply(batch, None, None)
    original = _middle(batch.images)
    made = [(variant, _plane(variant)) for variant in applied.variants]
    frames = [Frame(title="original", image=_windowed(original, low, high), lines=_own(batch, applied.measurements))]
    for variant, plane in made:
        frames.append(_frame(variant, plane, original, (low, high), applied.measurements))
    middle = zoom or _grey_place(_windowed(original, low, high))
    side = max(ZOOM_SHARE, LEAST_ZOOM_PX / min(original.shape))
    return Sheet(
        shift=condition.id,
        name=image.path.name,
        unit=image.unit.value if batch.space is Space.PHYSICAL else "of the display range",
        window=shown,
        frames=tuple(frames),
        zoom=(*middle, min(1.0, side)),
    )


def _batch(image: SingleImage, condition: Condition, window: tuple[float, float], seed: int) -> Batch:
    pixels = torch.from_numpy(np.ascontiguousarray(image.pixels))[None, None]
    physical = condition.works_in is Space.PHYSICAL
    if condition.works_in is Space.STORED:
        raise PlanError(f"{condition.id}: works on the stored grey levels, which a sheet cannot show")
    if not physical:
        pixels = ((pixels - window[0]) / (window[1] - window[0])).clamp(0.0, 1.0)
    spacing = (math.nan,) * (pixels.ndim - 2) if image.spacing_mm is None else image.spacing_mm
    return Batch(
        images=pixels,
        labels=torch.full((1, 1), torch.nan),
        case_ids=(image.path.name,),
        patient_ids=(image.path.name,),
        seeds=(derive_seed(seed, image.path.name),),
        space=condition.works_in,
        unit=image.unit if physical else None,
        modality=image.modality,
        spacing_mm=torch.tensor([spacing], dtype=torch.float32),
        limits=(0.0, 1.0) if physical else window,
        limits_unit=image.unit,
        stored_bits=image.stored_bits,
        attributes=(image.attributes,),
        metadata=({},),
        zero_signal=torch.tensor([image.zero_signal]) if physical and image.zero_signal else None,
        audit_seed=seed,
    )


def _plane(variant: Variant) -> Plane | None:
    if variant.images is None or (variant.applicable is not None and not bool(variant.applicable[0])):
        return None
    return _middle(variant.images)


def _middle(images: Tensor) -> Plane:
    """The only plane, or the middle slice of the only volume."""
    values = images[0, 0].detach().double().numpy()
    return np.asarray(values if values.ndim == 2 else values[len(values) // 2])


def _windowed(plane: Plane, low: float, high: float) -> Plane:
    return np.asarray(np.clip((plane - low) / (high - low), 0.0, 1.0))


def _frame(
    variant: Variant, plane: Plane | None, original: Plane, ends: tuple[float, float], measured: Sequence[Measurement]
) -> Frame:
    title = str(variant.level)
    if plane is None:
        return Frame(title=title, lines=("not applicable:", variant.reason or "no image"))
    return Frame(
        title=title,
        image=_windowed(plane, *ends),
        difference=plane - original if plane.shape == original.shape else None,
        lines=_lines([m for m in measured if m.level == variant.level.name], variant.changed_attributes(1)[0]),
    )


def _own(batch: Batch, measured: Sequence[Measurement]) -> tuple[str, ...]:
    """What is known of the image itself, or was measured once for all levels."""
    assert batch.spacing_mm is not None  # as it was made
    sides = [side for side in batch.spacing_mm[0].tolist() if math.isfinite(side)]
    spacing = " x ".join(f"{side:.3g}" for side in sides) + " mm" if sides else "spacing unknown"
    return (spacing, *_lines([m for m in measured if not m.level], {}))


def _lines(measured: Sequence[Measurement], attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Achieved values, with what was requested beside them, and what the header would say."""
    values = {m.quantity: float(m.values[0]) for m in measured if not m.finding and math.isfinite(float(m.values[0]))}
    asked = {_achieved(name): value for name, value in values.items() if _achieved(name) != name}
    lines = [
        _line(name, value, asked.get(name))
        for name, value in values.items()
        if _achieved(name) == name and (value or not name.endswith(_FLAG))
    ]
    lines += [f"{keyword} {text}" for keyword, text in attributes.items()]
    return tuple(lines[:MOST_LINES])


def _achieved(quantity: str) -> str:
    """Name of what a requested quantity is held against.

    >>> _achieved("added_noise_sd_requested_hu"), _achieved("requested_f50_per_mm"), _achieved("gain")
    ('added_noise_sd_hu', 'f50_per_mm', 'gain')
    """
    return "_".join(word for word in quantity.split("_") if word != "requested")


def _line(quantity: str, value: float, asked: float | None) -> str:
    """A quantity in words, its unit behind the number; a flag without one.

    >>> _line("added_noise_sd_hu", 13.04, 12.6), _line("kernel_assumed", 1.0, None)
    ('added noise SD 13 HU (asked 12.6)', 'kernel assumed')
    """
    suffix = next((suffix for suffix in _UNITS if quantity.endswith(suffix)), "")
    words = " ".join(_WORDS.get(word, word) for word in quantity.removesuffix(suffix).split("_"))
    if quantity.endswith(_FLAG):
        return words
    beside = "" if asked is None else f" (asked {figures(asked)})"
    return f"{words} {figures(value)} {_UNITS.get(suffix, '')}".rstrip() + beside


def figures(value: float) -> str:
    """A number in three figures, never as a power of ten where it is large.

    >>> figures(151_234.0), figures(1081.0), figures(23.84), figures(0.00123)
    ('151,000', '1,080', '23.8', '0.00123')
    """
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def _grey_place(shown: Plane) -> tuple[float, float]:
    """Middle of the square with the most pixels that are neither nearly black nor nearly white, as shares of the image."""
    side = max(1, round(ZOOM_SHARE * min(shown.shape)))
    grey = ndimage.uniform_filter(((shown > 0.1) & (shown < 0.9)).astype(np.float64), side, mode="constant")
    rows, columns = (np.linspace(-1.0, 1.0, extent) ** 2 for extent in shown.shape)
    row, column = np.unravel_index(int((grey - 0.1 * (rows[:, None] + columns)).argmax()), shown.shape)
    return (float(row) + 0.5) / shown.shape[0], (float(column) + 0.5) / shown.shape[1]

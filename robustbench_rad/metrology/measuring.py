"""Everything that can be measured of one image, each number with its spread, and why where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.conditions import Unit
from robustbench_rad.data.single import SingleImage
from robustbench_rad.metrology.edge_search import FEWEST_EDGES, EdgeSharpness, edge_sharpness
from robustbench_rad.metrology.ghosting import ghost_ratio
from robustbench_rad.metrology.native_noise import Noise, noise_hu, noise_of_foreground, signal_to_noise
from robustbench_rad.metrology.noise_power import FEWEST_WINDOWS, NoisePower, homogeneous_windows, noise_power
from robustbench_rad.metrology.uniformity import intensity_non_uniformity

MOST_SLICES = 16
WINDOW_SIDES = (32, 24, 16)  # pixels
SOFT_TISSUE_HU = (0.0, 170.0)
_BODY_EDGES = "rim of the body; where it is oblique to the slice it is softer than the kernel"
_ANATOMY_EDGES = "edges of the anatomy: the detector is at least that sharp"
PHASE_AXIS = {"COL": 0, "COLUMN": 0, "ROW": 1}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One quantity of one image.

    Attributes:
        quantity: What, in words.
        value: None where it is not measurable.
        unit: Of the value.
        lower, upper: Quartiles over the places it was read at, or None.
        places: At how many places it was read, with their name, e.g. ``24 edges``.
        reason: Why it is not measurable, or what to know of the value.
    """

    quantity: str
    value: float | None = None
    unit: str = ""
    lower: float | None = None
    upper: float | None = None
    places: str = ""
    reason: str = ""


def measure(image: SingleImage) -> list[Measured]:
    """Noise, sharpness and texture of any image; signal-to-noise ratio, non-uniformity and ghosts of MR."""
    return list(_measured(image))


def _measured(image: SingleImage) -> Iterator[Measured]:
    planes, (spacing, problem) = _slices(image), _spacing(image)
    noise, rows = _noise(image, planes, spacing, problem)
    yield from rows
    yield _sharpness(image, planes, spacing, problem)
    yield _texture(image, planes, spacing, problem)
    if image.unit is Unit.MAGNITUDE:
        snr = signal_to_noise(planes, noise.sd)
        yield _or_none("signal-to-noise ratio", snr, reason="the noise cannot be read")
        share = intensity_non_uniformity(image.stored)
        yield _or_none("non-uniformity", 100.0 * share, unit="%", reason="too little foreground")
        yield _ghosts(image, planes)


def _slices(image: SingleImage) -> npt.NDArray[np.float64]:
    """Evenly spread slices of the middle half of a volume, at most :data:`MOST_SLICES`; MR as it was stored."""
    stack: npt.NDArray[Any] = image.stored if image.unit is Unit.MAGNITUDE else image.pixels
    stack = stack if stack.ndim == 3 else stack[None]
    if len(stack) > 4:
        stack = stack[len(stack) // 4 : -(len(stack) // 4)]
    chosen = np.unique(np.linspace(0, len(stack) - 1, min(MOST_SLICES, len(stack))).round().astype(int))
    return np.asarray(stack[chosen], dtype=np.float64)


def _spacing(image: SingleImage) -> tuple[float | None, str]:
    """Side of a square pixel in mm, and why there is none."""
    if image.spacing_mm is None:
        return None, "pixel spacing unknown; --spacing-mm gives it"
    row, column = image.spacing_mm[-2:]
    if not (row > 0 and column > 0 and abs(row / column - 1.0) <= 0.01):
        return None, f"pixels are not square ({row:g} x {column:g} mm)"
    return (row + column) / 2.0, ""


def _noise(
    image: SingleImage, planes: npt.NDArray[np.float64], spacing: float | None, problem: str
) -> tuple[Noise, list[Measured]]:
    """The noise, and how it is shown: grey levels and share of the range for a radiograph."""
    name = "native noise"
    noise = noise_hu(planes, spacing or 1.0) if image.unit is Unit.HU else noise_of_foreground(planes)
    if image.unit is Unit.HU and spacing is None:
        return noise, [Measured(quantity=name, reason=problem)]
    if math.isnan(noise.sd):
        places = "200 windows of homogeneous soft tissue" if image.unit is Unit.HU else "64 blocks of the foreground"
        return noise, [Measured(quantity=name, reason=f"fewer than {places}")]
    if image.unit is Unit.HU:
        return noise, [_of_noise(name, noise, 1.0, "HU", "windows")]
    if image.unit is Unit.MAGNITUDE:
        return noise, [_of_noise(name, noise, 1.0, "stored units", "tiles")]
    scales = ((2.0**image.stored_bits - 1.0, "grey levels"), (100.0, "% of the range"))
    return noise, [_of_noise(name, noise, scale, unit, "tiles") for scale, unit in scales]


def _of_noise(name: str, noise: Noise, scale: float, unit: str, places: str) -> Measured:
    lower, upper = noise.lower * scale, noise.upper * scale
    count = f"{noise.places} {places}"
    return Measured(quantity=name, value=noise.sd * scale, unit=unit, lower=lower, upper=upper, places=count)


def _sharpness(image: SingleImage, planes: npt.NDArray[np.float64], spacing: float | None, problem: str) -> Measured:
    air = image.unit is Unit.HU
    if spacing is None and image.spacing_mm is not None:
        return Measured(quantity="f50 of the edges", reason=problem)
    found = max((edge_sharpness(plane, spacing or 1.0, hounsfield=air) for plane in _middle(planes)), key=_edges)
    if math.isnan(found.f50_per_mm):
        which = "edges between air and body" if air else "edges between two flat sides"
        reason = f"found {found.edges} clean {which}; at least {FEWEST_EDGES} are needed"
        return Measured(quantity="f50 of the edges", reason=reason)
    return Measured(
        quantity="f50 of the edges",
        value=found.f50_per_mm,
        unit="/mm" if spacing else "/pixel",
        lower=found.lower,
        upper=found.upper,
        places=f"{found.edges} edges",
        reason=_BODY_EDGES if air else _ANATOMY_EDGES,
    )


def _edges(found: EdgeSharpness) -> int:
    return found.edges


def _middle(planes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A few slices: the search for edges is the slowest part."""
    return planes[:: max(1, len(planes) // 4)]


def _texture(image: SingleImage, planes: npt.NDArray[np.float64], spacing: float | None, problem: str) -> Measured:
    name = "noise power peak"
    if spacing is None and image.spacing_mm is not None:
        return Measured(quantity=name, reason=problem)
    within = SOFT_TISSUE_HU if image.unit is Unit.HU else None
    count = 0
    for side in WINDOW_SIDES:
        windows = homogeneous_windows(planes, side, mean_within=within)
        count = max(count, len(windows))
        if len(windows) < FEWEST_WINDOWS:
            continue
        power = noise_power(windows, spacing or 1.0)
        unit, places = "/mm" if spacing else "/pixel", f"{len(windows)} windows"
        return _or_none(name, power.peak_per_mm, unit=unit, places=places, reason=_no_peak(power))
    reason = f"{count} homogeneous windows of {WINDOW_SIDES[-1]} pixels, at least {FEWEST_WINDOWS} are needed"
    return Measured(quantity=name, reason=reason)


def _no_peak(power: NoisePower) -> str:
    if power.falls_from_zero:
        return "power falls from the lowest frequency: anatomy or blur outweighs the noise"
    return f"flat within its errors over {len(power.power)} frequencies (white noise)"


def _ghosts(image: SingleImage, planes: npt.NDArray[np.float64]) -> Measured:
    axis = PHASE_AXIS.get(str(image.attributes.get("InPlanePhaseEncodingDirection", "")).upper())
    ratios = [ratio for plane in planes if math.isfinite(ratio := ghost_ratio(plane, axis or 0))]
    if not ratios:
        return Measured(quantity="ghost ratio", reason="no air beside the patient on both axes")
    values = np.array(ratios) if axis is not None else np.abs(ratios)
    lower, median, upper = (100.0 * float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return Measured(
        quantity="ghost ratio",
        value=median,
        unit="% of tissue",
        lower=lower,
        upper=upper,
        places=f"{len(ratios)} slices",
        reason="" if axis is not None else "phase-encoding axis unknown: the larger of both",
    )


def _or_none(quantity: str, value: float, *, unit: str = "", places: str = "", reason: str) -> Measured:
    if not math.isfinite(value):
        return Measured(quantity=quantity, reason=reason)
    return Measured(quantity=quantity, value=value, unit=unit, places=places)

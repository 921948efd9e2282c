"""The DICOM grayscale pipeline: stored values to HU (CT) or to presentation signal in [0, 1] (radiographs).

CT: ``HU = stored * slope + intercept``; padding becomes air. A radiograph: modality LUT or rescale, then VOI LUT or
window (PS3.3 C.11.2), then inversion for MONOCHROME1; padding becomes black. A window is never applied to CT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_rad.data.images import AIR_HU, Floats
from robustbench_rad.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

Doubles = npt.NDArray[np.float64]


def hounsfield(dataset: Dataset, stored: npt.NDArray[Any], where: str) -> Floats:
    """CT in HU; padding is air (-1024 HU).

    Raises:
        ImageError: The file does not say how stored values become HU.
    """
    kind = str(dataset.get("RescaleType", "") or "HU").upper()
    if dataset.get("RescaleIntercept") is None or dataset.get("RescaleSlope") is None or kind not in ("HU", "HU_MOD"):
        raise ImageError(
            f"{where}: expected CT with a rescale to HU, got rescale type {kind!r}, "
            f"slope {dataset.get('RescaleSlope')}, intercept {dataset.get('RescaleIntercept')}"
        )
    hu = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    hu[padding(dataset, stored)] = AIR_HU
    return hu.astype(np.float32)


def magnitude(dataset: Dataset, stored: npt.NDArray[Any]) -> Floats:
    """MR as the modality rescale has it, not yet scaled by its percentiles."""
    return np.asarray(_modality(dataset, stored), dtype=np.float32)


def presentation_signal(dataset: Dataset, stored: npt.NDArray[Any], where: str) -> Doubles:
    """Radiograph as it would be shown, in [0, 1], 1 white; padding is black.

    In float64, so that mapping it to the declared range rounds once, as it does for raster images.
    """
    values = _modality(dataset, stored)
    signal = _voi(dataset, values, where)
    if is_inverted(dataset):
        signal = 1.0 - signal
    signal[padding(dataset, stored)] = 0.0
    return signal


def is_inverted(dataset: Dataset) -> bool:
    """Whether the lowest value is white: MONOCHROME1, whose presentation LUT shape is INVERSE."""
    shape = str(dataset.get("PresentationLUTShape", "")).upper()
    return dataset.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE"


def padding(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels that are not part of the image: PixelPaddingValue, up to PixelPaddingRangeLimit."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((int(value), int(value if limit is None else limit)))
    return np.asarray((stored >= ends[0]) & (stored <= ends[1]))


def _modality(dataset: Dataset, stored: npt.NDArray[Any]) -> Doubles:
    from pydicom.pixels.processing import apply_modality_lut

    return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)


def _voi(dataset: Dataset, values: Doubles, where: str) -> Doubles:
    """Map modality values to [0, 1] by VOI LUT, else window, else the whole range of stored values."""
    if dataset.get("VOILUTSequence"):
        return _lookup(dataset, values)
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        function = str(dataset.get("VOILUTFunction", "") or "LINEAR").upper()
        return window(values, _first(dataset.WindowCenter), _first(dataset.WindowWidth), function, where)
    low, high = _full_range(dataset)
    return _clipped((values - low) / (high - low))


def _lookup(dataset: Dataset, values: Doubles) -> Doubles:
    from pydicom.pixels.processing import apply_voi

    bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
    shown = apply_voi(np.rint(values).astype(np.int64), dataset)
    return _clipped(np.asarray(shown, dtype=np.float64) / (2**bits - 1))


def _first(value: Any) -> float:  # noqa: ANN401 - one or several decimal strings
    return float(value[0]) if hasattr(value, "__iter__") and not isinstance(value, str) else float(value)


def window(values: Doubles, centre: float, width: float, function: str, where: str = "") -> Doubles:
    """Apply a window (PS3.3 C.11.2.1.2), output in [0, 1].

    LINEAR: ``(x - (c - 0.5)) / (w - 1) + 0.5``; LINEAR_EXACT: ``(x - c) / w + 0.5``;
    SIGMOID: ``1 / (1 + exp(-4 (x - c) / w))``.

    Raises:
        ImageError: A width or function that the standard does not allow.

    >>> window(np.array([0.0, 2047.5, 4095.0]), 2048, 4096, "LINEAR").tolist()
    [0.0, 0.5, 1.0]
    """
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ImageError(f"{where}: window width {width:g} is not above 0")
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0))))
    if function == "LINEAR_EXACT":
        return _clipped((values - centre) / width + 0.5)
    if function != "LINEAR":
        raise ImageError(f"{where}: unknown VOI LUT function {function!r}")
    if width == 1:
        return np.asarray(values > centre - 0.5, dtype=np.float64)
    return _clipped((values - (centre - 0.5)) / (width - 1.0) + 0.5)


def _clipped(signal: Doubles) -> Doubles:
    return np.asarray(np.clip(signal, 0.0, 1.0))


def _full_range(dataset: Dataset) -> tuple[float, float]:
    """Modality values of the lowest and highest value that can be stored."""
    if dataset.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits = int(dataset.BitsStored)
    lowest = -(2 ** (bits - 1)) if int(dataset.PixelRepresentation) else 0
    slope, intercept = float(dataset.get("RescaleSlope", 1) or 1), float(dataset.get("RescaleIntercept", 0) or 0)
    ends = sorted(value * slope + intercept for value in (lowest, lowest + 2**bits - 1))
    return ends[0], ends[1]

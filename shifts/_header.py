"""What the header of an altered image would say: DICOM attributes as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustbench_rad.conditions import Batch

TUBE_OUTPUT = ("XRayTubeCurrent", "Exposure")


def number_text(value: float) -> str:
    """Text of a number as a reader of DICOM files gives it.

    >>> number_text(120.0), number_text(62.5)
    ('120', '62.5')
    """
    return f"{value:.8g}"


def number_of(text: str | None) -> float:
    """Number that an attribute says; NaN for none.

    >>> number_of("62.5"), number_of(""), number_of("B30f")
    (62.5, nan, nan)
    """
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def header_numbers(batch: Batch, keyword: str) -> list[float]:
    """What the headers of the N cases say of ``keyword``; NaN for nothing."""
    rows: Sequence[Mapping[str, str]] = batch.attributes or ({},) * len(batch)
    return [number_of(row.get(keyword)) for row in rows]


def scaled_attributes(
    batch: Batch, keywords: Sequence[str], factor: float | Sequence[float]
) -> tuple[dict[str, str], ...]:
    """Attributes of every case multiplied by ``factor``, or each by its own; what a header does not say stays unsaid."""
    factors = [factor] * len(batch) if isinstance(factor, float | int) else factor
    columns = {keyword: header_numbers(batch, keyword) for keyword in keywords}
    return tuple(
        {
            name: number_text(values[row] * factors[row])
            for name, values in columns.items()
            if math.isfinite(values[row])
        }
        for row in range(len(batch))
    )
